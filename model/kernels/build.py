"""Compiling the C files of this folder, once for every kind of processor that is worth it.

A library's name carries a hash of what it was compiled from, so that none is ever loaded that does
not fit the program that calls it.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

Command = tuple[str, ...]

SOURCES = Path(__file__).parent
LIBRARIES = SOURCES / "lib"
FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
AVX2 = ("-march=haswell",)
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
KINDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "x86_64": {"avx512": AVX512, "avx2": AVX2},
    "aarch64": {"neon": ()},
    "arm64": {"neon": ()},
}
"""Per machine, the kinds of processors that have a library, and what the compiler is told."""
COMPILERS: Sequence[Command] = (
    ("cc",),
    ("gcc",),
    ("clang",),
    (sys.executable, "-m", "ziglang", "cc"),
)
"""That are tried; the last is a package that brings its own."""


class BuildError(Exception):
    """There is no compiler, or it refused."""


def library_path(kind: str, folder: Path = LIBRARIES) -> Path:
    """Where the library for a kind of processor is, once it is compiled from today's files."""
    return folder / f"stamp-{kind}-{_hash()}.so"


def build(
    compiler: Command | None = None,
    folder: Path = LIBRARIES,
    compilers: Sequence[Command] = COMPILERS,
) -> list[Path]:
    """Compile what is not there yet, and remove what other files were compiled from.

    Args:
        compiler: takes gcc's options; None = the first of `compilers` that is there.
        folder: for the libraries.
        compilers: to look for.

    Raises:
        BuildError: nothing was changed.
    """
    wanted = {kind: library_path(kind, folder) for kind in KINDS.get(platform.machine(), {})}
    missing = {kind: path for kind, path in wanted.items() if not path.exists()}
    if missing:
        compiler = compiler or _found(compilers)
        folder.mkdir(exist_ok=True)
    for kind, path in missing.items():
        assert compiler is not None
        _compile(compiler, KINDS[platform.machine()][kind], path)
    for path in folder.glob("*.so"):
        if path not in wanted.values():
            path.unlink()
    return list(wanted.values())


def _found(compilers: Sequence[Command]) -> Command:
    for command in compilers:
        if shutil.which(command[0]) and ("ziglang" not in command or find_spec("ziglang")):
            return command
    tried = ", ".join("ziglang" if "ziglang" in command else command[0] for command in compilers)
    raise BuildError(f"found no C compiler (tried: {tried})")


def _compile(compiler: Command, flags: tuple[str, ...], path: Path) -> None:
    """Write the library, whole or not at all."""
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    sources = [str(file) for file in sorted(SOURCES.glob("*.c"))]
    command = [*compiler, *FLAGS, *flags, "-o", str(unfinished), *sources, "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise BuildError(f"{' '.join(compiler)} refused: {done.stderr.strip()[-500:]}")
        unfinished.replace(path)
    except OSError as error:
        raise BuildError(f"{' '.join(compiler)} does not run: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _hash() -> str:
    """Of all that decides what a library does."""
    found = hashlib.sha256(repr((FLAGS, KINDS)).encode())
    for file in sorted((*SOURCES.glob("*.c"), *SOURCES.glob("*.h"))):
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]
