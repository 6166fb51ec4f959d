#!/bin/sh
# Make .venv hold what `make serve` (runtime) or `make test` (dev) needs, from the locks.
#
# Usage: scripts/install.sh runtime|dev STAMP...
# STAMP... are made last. An environment without any was interrupted half-way and is made anew, so
# that no half-copied package survives; with one, what is there is brought up to date in place.
#
# PYTHON: the interpreter to use; else the first of the usual names that is 3.11 or newer.
# TORCH:  what pip installs as torch, options included; else a CPU build.
set -eu
cd "$(dirname "$0")/.."

layer=$1
shift
torch_version=2.13.0
cpu_index=https://download.pytorch.org/whl/cpu
pip=".venv/bin/python -m pip --disable-pip-version-check --no-input"

say() { echo "[install] $*"; }

suits() { # Can this interpreter make the environment?
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  for python in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if suits "$python"; then
      "$python" -c 'import sys; print(sys._base_executable)'
      return
    fi
  done
  say "found no Python 3.11 or newer with its venv module" \
    "(tried: ${PYTHON:-python3.11 python3.12 python3.13 python3}); install one or name it: make PYTHON=/path/to/python3 ..." >&2
  exit 1
}

make_environment() {
  say "making .venv with $python"
  "$python" -m venv --clear .venv
}

install_torch() {
  wanted=${TORCH:-cpu}
  if [ "$(cat .venv/.torch 2>/dev/null)" != "$wanted" ]; then
    $pip uninstall -qq --yes torch
  fi
  if [ -n "${TORCH:-}" ]; then
    say "installing $TORCH"
    # Unquoted: it may hold pip options.
    # shellcheck disable=SC2086
    $pip install $TORCH
  elif [ "$(uname -s)" != Linux ]; then
    say "installing torch $torch_version"
    $pip install --no-deps "torch==$torch_version"
  else
    # On Linux a plain torch brings gigabytes of CUDA. pip's own sources may hold the CPU build
    # (a folder of wheels, a mirror); else it comes from torch's own index.
    say "installing torch $torch_version, CPU build"
    $pip install --no-deps "torch==$torch_version+cpu" 2>.venv/torch.log ||
      $pip install --no-deps "torch==$torch_version+cpu" --index-url "$cpu_index" ||
      {
        cat .venv/torch.log >&2
        say "found no CPU build of torch for this Python; name another: make TORCH=... (see Makefile)" >&2
        exit 1
      }
  fi
  echo "$wanted" >.venv/.torch
}

python=$(find_python)
version=$("$python" -c 'import sys; print(sys.version)')
if ! ls .venv/.installed-* >/dev/null 2>&1 ||
  [ "$(.venv/bin/python -c 'import sys; print(sys.version)' 2>/dev/null)" != "$version" ]; then
  make_environment
fi
rm -f .venv/.installed-*

say "installing the packages of requirements/$layer.lock"
$pip install -qq --no-deps --require-hashes -r "requirements/$layer.lock"
install_torch
$pip install -qq --no-deps --require-hashes -r requirements/demo.lock
say "compiling the processor code"
.venv/bin/python -m model.kernels
touch "$@"
say "done"
