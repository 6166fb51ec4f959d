"""Compiled code stays within its memory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model.kernels.build import build

ROOT = Path(__file__).parents[2]
FLAGS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
RUNTIMES = ("libasan.so", "libubsan.so")


def runtimes() -> list[Path]:
    """Where gcc has what its sanitizers need; none without gcc."""
    if shutil.which("gcc") is None:
        return []
    asked = [["gcc", f"-print-file-name={name}"] for name in RUNTIMES]
    found = [Path(subprocess.check_output(each, text=True).strip()) for each in asked]
    return [path for path in found if path.is_absolute()]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of them, compiled with sanitizers."""
    folder = tmp_path_factory.mktemp("sanitized")
    build(("gcc", *FLAGS), folder)
    return folder


@pytest.mark.skipif(len(runtimes()) < len(RUNTIMES), reason="no gcc with sanitizers")
@pytest.mark.parametrize("ability", ["avx512", "avx2"])
def test_nothing_is_read_or_written_beyond_its_memory(libraries: Path, ability: str) -> None:
    """Products, attention and both architectures; torch takes the ability as the most there is."""
    environment = os.environ | {
        "LD_PRELOAD": ":".join(map(str, runtimes())),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
        "ATEN_CPU_CAPABILITY": ability,
    }

    done = subprocess.run(
        [sys.executable, "-m", "tests.model.sanitized", str(libraries)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "clean\n", done.stderr[-3000:]
