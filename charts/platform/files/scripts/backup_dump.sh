#!/usr/bin/env bash
# Dump the metadata database into $WORK: one transaction sees it, so it is consistent while Airflow goes on.
set -euo pipefail
umask 077
started=$(date -u +%Y-%m-%dT%H:%M:%S+00:00)
# Never wait for long behind a migration's lock: everything else would queue behind this.
pg_dump --dbname=service=metadata --format=custom --lock-wait-timeout=60s --file="$WORK/dump"
# Read from the dump and not from the database: these are its own revisions, and it can be read.
revision() { pg_restore --data-only --table="$1" --file=- "$WORK/dump" | sed -n '/^COPY /,/^\\\.$/p' | sed '1d;$d'; }
{
  echo "started=$started"
  for table in alembic_version alembic_version_fab; do echo "$table=$(revision "$table")"; done
} >"$WORK/facts"
ls -l "$WORK/dump"
