#!/bin/sh
# Whether docker-compose.yml and its overlays are valid; needs the docker command line with compose,
# but no engine. Without it, says so and goes on: tests/deploy reads the files all the same.
set -eu
cd "$(dirname "$0")/.."

if ! docker compose version >/dev/null 2>&1; then
  echo "[check] no \`docker compose\` here: docker-compose.yml is not validated"
  exit 0
fi
for overlay in "" "--file deploy/compose.secrets.yml"; do
  # Unquoted: no overlay is no word.
  # shellcheck disable=SC2086
  docker compose --file docker-compose.yml $overlay --profile "*" config --quiet
done
echo "[check] docker-compose.yml is valid, with every profile and overlay"
