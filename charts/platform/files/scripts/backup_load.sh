#!/usr/bin/env bash
# Restore the dump in $WORK into the empty database that `backup.py fetch` made. The role that logs in owns everything in it. What
# other roles may do is not taken from the dump: those roles may be missing on this server, and database_rights.py grants the rights later.
set -euo pipefail
exec pg_restore --dbname=service=restored --no-owner --no-privileges --exit-on-error --jobs="${JOBS:-2}" "$WORK/dump"
