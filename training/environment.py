"""Where and of what a measurement was taken: commit, command, hardware, versions."""

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import torch

ROOT = Path(__file__).parents[1]


class Environment(TypedDict):
    """What has to be known to repeat a measurement; part of every record."""

    date: str
    commit: str
    command: str
    cpu: str
    cores: int
    memory_gb: float
    load_average: float
    torch_threads: int
    versions: dict[str, str]


def environment(module: str, arguments: Sequence[str]) -> Environment:
    """The environment of this process.

    Args:
        module: what runs as `python -m module`.
        arguments: of the command line.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Environment(
        date=datetime.now(tz=UTC).date().isoformat(),
        commit=_commit(),
        command=shlex.join(["python", "-m", module, *arguments]),
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_gb=round(memory / 2**30, 1),
        load_average=round(os.getloadavg()[0], 2),
        torch_threads=torch.get_num_threads(),
        versions={"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy")},
    )


def hardware_name(found: Environment) -> str:
    """Short, for file names: intel-xeon-processor-2-cores."""
    words = re.sub(r"\(\w+\)|@.*", " ", found["cpu"].lower())
    return "-".join([*re.findall(r"[a-z0-9]+", words), str(found["cores"]), "cores"])


def _cpu() -> str:
    if sys.platform == "linux":
        names = re.findall(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), flags=re.MULTILINE)
        if names:
            return str(names[0])
    return platform.processor() or platform.machine()


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _commit() -> str:
    """The commit's hash, "+changes" if files differ from it, "unknown" outside a repository."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", "model", "training", "benchmarks"
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+changes" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own words
        ["git", *arguments],  # noqa: S607 - whichever git there is
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()
