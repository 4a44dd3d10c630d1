#!/bin/sh
# What backup.sh wrote, into an empty database and bucket: restore.sh FOLDER (variables: backup.sh).
# Artifacts come first: a server that is started too early names nothing that is not there.
set -eu
FOLDER=$1
if [ ! -f "$FOLDER/mlflow.dump" ]; then
  echo "'$FOLDER' holds no complete backup (mlflow.dump is missing). Give a folder of backup.sh." >&2
  exit 2
fi
rclone copy "$FOLDER/artifacts" "store:$BUCKET"
# All or nothing: a database that holds tables already is refused and stays as it is.
pg_restore --no-owner --exit-on-error --single-transaction --dbname="$PGDATABASE" \
  "$FOLDER/mlflow.dump"
echo "restored from $FOLDER"
