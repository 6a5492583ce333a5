#!/usr/bin/env bash
# Migrate the metadata database to this image's version, then set pools, variables and users as the values say.
# Every step may be repeated.
set -euo pipefail

airflow db check --retry "$((DATABASE_TIMEOUT / 5))" --retry-delay 5

# `airflow db migrate` prints a traceback and still succeeds if the auth manager cannot be imported.
python -c 'from airflow.configuration import conf; conf.getimport("core", "auth_manager")'

# After the rollback of an upgrade the schema is newer than this image, and `airflow db migrate` does not know its revision.
if python /etc/migration/schema_is_newer.py; then
  echo "the schema is newer than this image: nothing to migrate"
else
  airflow db migrate
fi
python /etc/migration/pools.py </etc/migration/pools.json
airflow variables import /etc/migration/variables.json --action-on-existing-key overwrite

# The password goes through standard input: arguments can be read by every process of the machine.
while read -r name role email; do
  { cat "/etc/users/$name"; echo; cat "/etc/users/$name"; echo; } |
    airflow users create --username "$name" --role "$role" --email "$email" --firstname "$name" --lastname platform
done </etc/migration/users.txt
