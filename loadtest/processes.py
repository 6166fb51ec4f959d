"""Processes of a load test: the client, a server to measure the client by, and a service."""

import json
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import psutil

from loadtest.errors import LoadTestError
from loadtest.files import write_whole
from loadtest.plan import Plan
from loadtest.records import CLIENT_FILE, read_rows
from loadtest.target import Target

ROOT = Path(__file__).parents[1]
SAMPLE_S = 0.5
START_S = 120.0
STOP_S = 40.0
SPARE_S = 120.0  # for a client beyond its plan: start, waiting for answers, writing the record


@dataclass(frozen=True)
class Observed:
    """What a client brought back.

    Args:
        rows: see loadtest/records.py.
        cpu_share: processor time of the client per second of the measured part.
        start_s: Unix time of the rows' zero.
    """

    rows: pl.DataFrame
    cpu_share: float
    start_s: float


def run_client(plan: Plan, url: str, folder: Path, key_file: Path | None = None) -> Observed:
    """Send what a plan says, in a process of its own.

    Args:
        plan: what to send.
        url: of the service.
        folder: gets plan.json, requests.parquet and client.log.
        key_file: file with an API key.
    """
    plan_path, record = folder / "plan.json", folder / "requests.parquet"
    write_whole(plan_path, plan.model_dump_json())
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py")]
    command += ["--headless", "--only-summary", "--loglevel", "WARNING", "--host", url]
    command += ["--stop-timeout", "5", "--exit-code-on-error", "0"]
    command += ["--plan", str(plan_path.resolve()), "--record", str(record.resolve())]
    if key_file is not None:
        command += ["--key-file", str(key_file.resolve())]
    record.unlink(missing_ok=True)
    log = folder / "client.log"
    limit_s = plan.schedule.total_s + plan.drain_s + SPARE_S
    with log.open("wb") as output, started(command, output) as process:
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise LoadTestError(f"the client did not end; see {log}") from error
    if code or not record.exists():
        raise LoadTestError(f"the client failed with exit code {code}; see {log}")
    beside = json.loads(record.with_name(CLIENT_FILE).read_text("utf-8"))
    return Observed(read_rows(record), beside["client_cpu_share"], beside["start_s"])


@contextmanager
def started(command: Sequence[str], output: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone when the block ends; its output goes to a file or a pipe."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def echo_server() -> Iterator[str]:
    """The address of a server that only answers; see loadtest/echo.py."""
    command = [sys.executable, "-m", "loadtest.echo"]
    with started(command, subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdout.close()


@dataclass(frozen=True)
class Used:
    """What a service used in the measured part of a run: cores on average, and memory."""

    cores: float
    resident_begin_mb: float
    resident_end_mb: float


@dataclass
class Usage:
    """What a process and its children use, sampled twice a second.

    Args:
        pid: of the process.
        time_s: Unix time of each sample.
        cpu_s: processor time until then; resident_mb: memory then.
    """

    pid: int
    time_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take samples until the block ends."""
        end = threading.Event()
        thread = threading.Thread(target=self._watch, args=(end,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def within(self, begin_s: float, end_s: float) -> Used | None:
        """What was used between two Unix times; None with fewer than two samples there."""
        inside = [at for at, time_s in enumerate(self.time_s) if begin_s <= time_s <= end_s]
        if len(inside) < 2:
            return None
        first, last = inside[0], inside[-1]
        busy_s = self.cpu_s[last] - self.cpu_s[first]
        return Used(
            busy_s / (self.time_s[last] - self.time_s[first]),
            self.resident_mb[first],
            self.resident_mb[last],
        )

    def _watch(self, end: threading.Event) -> None:
        try:
            while not end.wait(SAMPLE_S):
                self.sample()
        except psutil.Error:
            return  # it has ended

    def sample(self) -> None:
        """Take one sample."""
        parent = psutil.Process(self.pid)
        family = [parent, *parent.children(recursive=True)]
        times = [process.cpu_times() for process in family]
        resident = [process.memory_info().rss for process in family]
        self.time_s.append(time.time())
        self.cpu_s.append(sum(each.user + each.system for each in times))
        self.resident_mb.append(sum(resident) / 2**20)


@contextmanager
def service(
    bundle_dir: Path, history_url: str, data: Path | None, serve_args: str, folder: Path
) -> Iterator[tuple[str, int]]:
    """A service of our own, its address and process id; it ends with the block.

    Args:
        bundle_dir: the model's versions.
        history_url: of its store, which gets the histories of `data`.
        data: parquet of histories.
        serve_args: more options of `python -m service serve`.
        folder: gets service.log.
    """
    if data is not None:
        _import_histories(data, history_url)
    port = _free_port()
    command = [sys.executable, "-m", "service", "serve", "--bundle-dir", str(bundle_dir.resolve())]
    command += ["--history-url", history_url, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--log-level", "warning", *shlex.split(serve_args)]
    target = Target(f"http://127.0.0.1:{port}")
    with (folder / "service.log").open("wb") as log, started(command, log) as process:
        target.until_ready(START_S, lambda: process.poll() is None)
        yield target.url, process.pid


def _import_histories(data: Path, history_url: str) -> None:
    command = [sys.executable, "-m", "service", "import-histories", str(data.resolve())]
    command += ["--store", history_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadTestError(f"import-histories: {done.stderr.strip().splitlines()[-1]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
