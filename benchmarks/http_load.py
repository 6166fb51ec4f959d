"""A lean HTTP/1.1 client for load, in a process of its own: python -m benchmarks.http_load < PLAN.

It writes ready-made requests to sockets that stay open, one at a time each, and checks every
response, for about 60 microseconds of processor time each.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.http_connection import Connection, LoadError

ROOT = Path(__file__).parents[1]
MAX_REMARKS = 5
MODEL_MS = re.compile(rb"model;dur=([\d.]+)")
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Call:
    """One request, and what its response must be.

    Args:
        path: with the query, if any.
        body: sent as JSON; None = none.
        method: in capitals.
        status: that is expected.
        items: entries that `items` of the response must have; None = do not look.
    """

    path: str
    body: Any = None
    method: str = "POST"
    status: int = 200
    items: int | None = None


@dataclass(frozen=True)
class Plan:
    """What to send.

    Args:
        url: the server's, such as http://127.0.0.1:8000.
        calls: taken in turn, again from the first after the last.
        connections: open ones; each waits for a response before it sends the next request.
        count: requests in all; 0 = until `seconds` are over.
        seconds: after so many, no further request is begun; 0 = no such end.
        interval_ms: least time from one request of a connection to its next one.
    """

    url: str
    calls: Sequence[Call]
    connections: int = 1
    count: int = 0
    seconds: float = 0.0
    interval_ms: float = 0.0


@dataclass
class Load:
    """What came back; the lists have one entry for every response, in the order of their ends.

    Args:
        seconds: from the first request to the last response.
        cpu_s: processor time of the client.
        latencies_ms: from writing a request to its whole response.
        model_ms: of the response's Server-Timing; 0 without one.
        statuses: responses by status; 0 is a connection that was lost.
        wrong: responses that were not what their call expects.
        remarks: the first few of them.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    model_ms: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    wrong: int = 0
    remarks: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Responses in a second."""
        return len(self.latencies_ms) / self.seconds

    @property
    def overheads_ms(self) -> list[float]:
        """Latencies without the model's time."""
        return [
            whole - model for whole, model in zip(self.latencies_ms, self.model_ms, strict=True)
        ]

    def note(self, problem: str) -> None:
        """Count a response that was wrong."""
        self.wrong += 1
        if len(self.remarks) < MAX_REMARKS:
            self.remarks.append(problem)


@dataclass(frozen=True)
class Client:
    """A client at work, in a process of its own, and the file that its result comes in.

    In a file, because a pipe once lost what did not fit into it.
    """

    process: "subprocess.Popen[bytes]"
    result: IO[bytes]


def start_client(plan: Plan) -> Client:
    """A client at work on a plan; for `result_of`."""
    result = TemporaryFile()  # noqa: SIM115  # result_of closes it
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.http_load"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=result,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(plan)).encode())
    process.stdin.close()
    process.stdin = None
    return Client(process, result)


def result_of(client: Client) -> Load:
    """What a client's work came to, when it is done.

    Raises:
        LoadError: the client failed.
    """
    with client.result as result:
        _, error = client.process.communicate()
        if client.process.returncode:
            raise LoadError(f"the client failed: {error.decode()[-1000:]}")
        result.seek(0)
        found = json.load(result)
    statuses = {int(status): number for status, number in found["statuses"].items()}
    return Load(**{**found, "statuses": statuses})


class _Client:
    """A plan at work."""

    def __init__(self, plan: Plan) -> None:
        address = urlsplit(plan.url)
        self._address = (address.hostname or "", address.port or 80)
        self._plan, self._load = plan, Load()
        self._requests = [_request(call, address.netloc) for call in plan.calls]
        self._begun = 0
        self._end_s = float("inf")

    async def run(self) -> Load:
        """Send everything."""
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        if self._plan.seconds:
            self._end_s = began_s + self._plan.seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(self._plan.connections):
                group.create_task(self._work())
        self._load.seconds = time.perf_counter() - began_s
        self._load.cpu_s = time.process_time() - began_cpu_s
        return self._load

    async def _work(self) -> None:
        """What one connection does, or several when they get lost."""
        connection = Connection()
        while (number := self._take()) is not None:
            if not connection.is_open:
                connection = await self._connect()
            sent_s = time.perf_counter()
            head, body = b"", b""
            try:
                head, body = await connection.ask(self._requests[number])
            except ConnectionError as error:
                self._load.note(str(error))
            elapsed_ms = (time.perf_counter() - sent_s) * 1000
            self._count(self._plan.calls[number], elapsed_ms, head, body)
            if wait_ms := max(0.0, self._plan.interval_ms - elapsed_ms):
                await asyncio.sleep(wait_ms / 1000)
        if connection.is_open:
            connection.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        host, port = self._address
        async with asyncio.timeout(PATIENCE_S):
            _, connection = await loop.create_connection(Connection, host, port)
        return connection

    def _take(self) -> int | None:
        """The number of the next call, None when there is none left."""
        if time.perf_counter() >= self._end_s or 0 < self._plan.count <= self._begun:
            return None
        self._begun += 1
        return (self._begun - 1) % len(self._requests)

    def _count(self, call: Call, elapsed_ms: float, head: bytes, body: bytes) -> None:
        """Count and check a response; without a head there was none."""
        load = self._load
        load.latencies_ms.append(elapsed_ms)
        load.model_ms.append(_model_ms(head))
        status = int(head[9:12] or 0)
        load.statuses[status] = load.statuses.get(status, 0) + 1
        if head and status != call.status:
            load.note(f"{call.path}: {status}, not {call.status}: {body[:300]!r}")
        elif head and call.items is not None and (found := _num_items(body)) != call.items:
            load.note(f"{call.path}: {found} items, not {call.items}")


def _request(call: Call, host: str) -> bytes:
    """The bytes of a request."""
    body = b"" if call.body is None else json.dumps(call.body).encode()
    lines = [f"{call.method} {call.path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _model_ms(head: bytes) -> float:
    """Of the Server-Timing header."""
    found = MODEL_MS.search(head)
    return float(found[1]) if found else 0.0


def _num_items(body: bytes) -> int:
    """Entries of `items`; -1 if there is no such list."""
    try:
        items = json.loads(body)["items"]
    except (ValueError, KeyError, TypeError):
        return -1
    return len(items) if isinstance(items, list) else -1


def main() -> None:
    """Carry out the plan on standard input; print what came back."""
    plan = json.load(sys.stdin)
    calls = [Call(**call) for call in plan.pop("calls")]
    try:
        load = uvloop.run(_Client(Plan(calls=calls, **plan)).run())
    except* (LoadError, OSError) as failures:
        sys.exit(f"{failures.exceptions[0]}")
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
