#!/bin/sh
# A copy of everything that an MLflow server of this folder keeps: backup.sh FOLDER
#   PGHOST, PGUSER, PGPASSWORD, PGDATABASE: its database
#   BUCKET: its bucket; the store is rclone's remote "store" (RCLONE_CONFIG_STORE_*)
# The database comes first: what it names at that moment lies in the bucket already, and what is
# written while this runs is in the copy without a name, which harms nothing.
set -eu
FOLDER=$1
umask 077
mkdir -p "$FOLDER"
pg_dump --format=custom --no-owner --file="$FOLDER/mlflow.dump.part"
rclone copy "store:$BUCKET" "$FOLDER/artifacts"
# Its name says that all of it is here.
mv "$FOLDER/mlflow.dump.part" "$FOLDER/mlflow.dump"
echo "backup complete: $FOLDER"
