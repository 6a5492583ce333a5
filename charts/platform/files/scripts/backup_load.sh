#!/usr/bin/env bash
# Restore the dump in $WORK into the empty database that `backup.py fetch` made. The role that logs in owns everything in it.
set -euo pipefail
exec pg_restore --dbname=service=restored --no-owner --exit-on-error --jobs="${JOBS:-2}" "$WORK/dump"
