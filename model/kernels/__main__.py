"""Compile our processor code: python -m model.kernels [COMPILER [ARGUMENT...]].

Without a compiler nothing is lost but time: torch computes the same. So that is no failure, unless
a compiler was named.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from model.kernels.build import COMPILERS, LIBRARIES, BuildError, Command, build


def main(
    compiler: Command, folder: Path = LIBRARIES, compilers: Sequence[Command] = COMPILERS
) -> int:
    """Returns the exit code."""
    try:
        paths = build(compiler or None, folder, compilers)
    except BuildError as error:
        sys.stderr.write(f"[kernels] {error}: torch computes instead, more slowly\n")
        return int(bool(compiler))
    names = ", ".join(path.name for path in paths) or "there are none for this machine"
    sys.stdout.write(f"[kernels] {names}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
