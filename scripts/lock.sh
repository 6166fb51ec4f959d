#!/bin/sh
# Write requirements/*.lock from pyproject.toml, for every platform and Python from 3.11 on.
#
# Pins already in a lock stay. To move them: UPGRADE=1 make lock, or delete the line and lock again.
# The locks name no index, so that they install from whatever pip is set up to use.
set -eu
cd "$(dirname "$0")/.."

UV_CUSTOM_COMPILE_COMMAND="make lock"
export UV_CUSTOM_COMPILE_COMMAND

lock() { # lock OUTPUT ARGUMENT...
  output=requirements/$1.lock
  shift
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --annotation-style line \
    --no-emit-package torch --excludes requirements/not-locked.txt ${UPGRADE:+--upgrade} \
    --output-file "$output" "$@"
}

of_extra() { # of_extra NAME: what an extra alone asks for, without what the service needs
  .venv/bin/python -c 'import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print(*project["optional-dependencies"][sys.argv[1]], sep="\n")' "$1"
}

# The largest first: the others take their pins from it.
lock dev pyproject.toml --extra train --extra bench --extra loadtest --extra dev
unset UPGRADE
lock runtime pyproject.toml --extra train --constraints requirements/dev.lock
lock service pyproject.toml --constraints requirements/dev.lock
of_extra loadtest | lock loadtest - --constraints requirements/dev.lock
of_extra kernels | lock kernels - --no-deps
lock ray pyproject.toml --extra ray --constraints requirements/dev.lock
lock demo requirements/demo.txt --no-deps
