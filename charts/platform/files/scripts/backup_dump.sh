#!/usr/bin/env bash
# Dump the metadata database into $WORK. One transaction reads it, so the dump is consistent although Airflow goes on.
set -euo pipefail
umask 077
started=$(date -u +%Y-%m-%dT%H:%M:%S+00:00)
# Do not wait long for a lock that a migration holds: every other query would wait behind this one.
# Without large objects (-B): Airflow has none, and one that another login makes could not be read, so there would be no backups.
pg_dump --dbname=service=metadata --format=custom -B --lock-wait-timeout=60s --file="$WORK/dump"
# From the dump and not from the database: so they are the dump's own revisions, and it is certain that the dump can be read.
revision() { pg_restore --data-only --table="$1" --file=- "$WORK/dump" | sed -n '/^COPY /,/^\\\.$/p' | sed '1d;$d'; }
{
  echo "started=$started"
  for table in alembic_version alembic_version_fab; do echo "$table=$(revision "$table")"; done
} >"$WORK/facts"
ls -l "$WORK/dump"
