#!/bin/sh
# Make sure that there is something to serve: train a recipe unless the bundle folder has a version
# of it, then put the histories of its users into the store. Run again, it changes nothing.
#
# RECIPE:                 which recipe, by name or file; its name is its bundle's.
# STAMP_HISTORY_URL:      the store, or
# STAMP_HISTORY_URL_FILE: a file with its URL.
set -eu
cd "$(dirname "$0")/.."

recipe=${RECIPE:-demo-ml100k}
name=$(basename "$recipe" .toml)
histories=runs/$name/data/histories.parquet

if ls "bundles/$name"/*/manifest.json >/dev/null 2>&1; then
  echo "[demo] bundles/$name has a version already: nothing to train"
else
  python -m training run "$recipe"
fi

if [ ! -f "$histories" ]; then
  echo "[demo] there is no $histories: no histories to import"
elif [ -n "${STAMP_HISTORY_URL_FILE:-}" ]; then
  python -m service import-histories "$histories" --store-file "$STAMP_HISTORY_URL_FILE"
else
  python -m service import-histories "$histories" --store "$STAMP_HISTORY_URL"
fi
