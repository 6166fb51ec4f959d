#!/bin/sh
# Make the files that deploy/compose.secrets.yml mounts, each with a new random secret; those that are
# there already stay. Folder: SECRETS_DIR, by default secrets/.
#
# Nobody but you can enter the folder. The files in it are readable, for a container gets each by
# itself and reads it as its own user.
set -eu
cd "$(dirname "$0")/.."

folder=${SECRETS_DIR:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"

random() { # 48 hexadecimal digits
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

keep() { # keep NAME TEXT
  if [ -e "$folder/$1" ]; then
    echo "[secrets] $folder/$1 is there already"
  else
    (umask 022 && printf '%s\n' "$2" >"$folder/$1.part" && mv "$folder/$1.part" "$folder/$1")
    echo "[secrets] made $folder/$1"
  fi
}

keep api_keys "$(random)"
keep valkey_password "$(random)"
keep history_url "redis://:$(cat "$folder/valkey_password")@valkey:6379/0"
keep grafana_password "$(random)"
