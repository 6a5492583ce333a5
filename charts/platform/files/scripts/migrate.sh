#!/usr/bin/env bash
# Migrate the metadata database to this image's version and give its roles their rights, then set pools, variables and users as
# the values say. Every step may be repeated.
set -euo pipefail

airflow db check --retry "$((DATABASE_TIMEOUT / 5))" --retry-delay 5

# `airflow db migrate` prints a traceback and still succeeds if the auth manager cannot be imported.
python -c 'from airflow.configuration import conf; conf.getimport("core", "auth_manager")'

# Before anything else: whoever waits for a login need not wait for the migration.
python /etc/migration/database_rights.py make

# Libraries may print warnings before it.
state=$(python /etc/migration/schema_state.py | tail -n 1)
case $state in
  in-use)
    # A migration now would run beside an Airflow that may not work on the new schema, and wait for its locks.
    if [ "$LEAVE_TO_UPGRADE" = true ]; then
      python /etc/migration/database_rights.py grant check
      echo "an Airflow works on this database with another schema: the Job airflow-operations-reconcile-... migrates it"
      exit 0
    fi
    echo "problem: an Airflow works on this database with another schema. Run airflow-ops upgrade, or stop it first" \
      "(airflow-ops deploy --maintenance-window)" >&2
    exit 1
    ;;
  newer) echo "the schema is newer than this image: nothing to migrate" ;;
  free) airflow db migrate ;;
  *)
    echo "problem: schema_state.py says '$state'" >&2
    exit 1
    ;;
esac
# After each migration, which may have made tables.
python /etc/migration/database_rights.py grant check
python /etc/migration/pools.py </etc/migration/pools.json
airflow variables import /etc/migration/variables.json --action-on-existing-key overwrite
python /etc/migration/users.py /etc/users </etc/migration/users.json
