"""A process and all below it: what they have computed, and how they end."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
GUARDIAN = 'exec 3<&0; "$@" </dev/null >&2 & echo $!; read -r _ <&3; kill $!; wait'
CPU_TIMES = slice(11, 15)  # of /proc/PID/stat behind the name: own and waited-for children's


class Guarded:
    """A process that ends with the one that started it, however that ends.

    A shell waits for the end of its own standard input, which the starter holds open, and then
    ends the process.

    Args:
        command: to run, in the repository.
        variables: for its environment, besides what is there.
        log: where it writes.
    """

    def __init__(self, command: Sequence[str], variables: dict[str, str], log: IO[str]) -> None:
        named = [f"{name}={value}" for name, value in variables.items()]
        self._shell = subprocess.Popen(  # noqa: S603  # our own words
            ["/bin/sh", "-c", GUARDIAN, "sh", "/usr/bin/env", *named, *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert self._shell.stdout is not None
        self.pid = int(self._shell.stdout.readline())

    def cpu_s(self) -> float:
        """Processor time that it and all below it have used, in seconds."""
        return sum(map(_cpu_s, tree(self.pid)))

    def kill(self) -> None:
        """End it and all below it at once."""
        for pid in tree(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._shell.communicate()


def tree(pid: int) -> list[int]:
    """A process and all below it, the top first: nobody is left to start something again."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                found += tree(int(child))
    return found


def _cpu_s(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[CPU_TIMES])) / os.sysconf("SC_CLK_TCK")
    return 0.0  # it is gone
