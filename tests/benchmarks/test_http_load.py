"""The load client, against a real server that answers what its paths say."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from benchmarks.http_connection import LoadError
from benchmarks.http_load import Call, Load, Plan, result_of, start_client


class Handler(BaseHTTPRequestHandler):
    """Echoes bodies; /STATUS answers with it, /hang-up and /endless do not answer properly."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One response, or none."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/hang-up":
            self.close_connection = True
            return
        self.send_response(int(self.path[1:]))
        if self.path != "/203":
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Server-Timing", "queue;dur=1.00, model;dur=12.50, total;dur=20.00")
        if self.path == "/202":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        """Not on the terminal."""


@pytest.fixture
def url() -> Iterator[str]:
    """Where the server is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(plan: Plan) -> Load:
    """What the client's process says."""
    return result_of(start_client(plan))


def test_every_request_is_sent_and_its_response_measured(url: str) -> None:
    """As many as asked for, in turn, over several connections."""
    calls = [Call("/200", {"items": [1, 2]}, items=2), Call("/422", {"items": []}, status=422)]

    load = run(Plan(url, calls, connections=3, count=10))

    assert load.statuses == {200: 5, 422: 5}
    assert load.wrong == 0
    assert load.model_ms == [12.5] * 10
    assert 0 < min(load.latencies_ms) <= 1000 * load.seconds


@pytest.mark.parametrize(
    ("call", "remark"),
    [
        (Call("/200", {"items": [1]}, items=2), "1 items, not 2"),
        (Call("/200", ["items"], items=1), "-1 items, not 1"),
        (Call("/503", {"detail": "busy"}), '503, not 200: b\'{"detail": "busy"}\''),
        (Call("/hang-up", {}), "connection lost"),
    ],
    ids=["too few", "no items", "status", "lost"],
)
def test_a_wrong_response_is_counted_and_told(url: str, call: Call, remark: str) -> None:
    """The client goes on, so that one failure does not hide the next."""
    load = run(Plan(url, [call, Call("/200", {})], count=4))

    assert load.wrong == 2
    assert remark in load.remarks[0]
    assert load.statuses[200] >= 2


def test_a_connection_that_the_server_closes_is_replaced(url: str) -> None:
    """As HTTP/1.1 allows it to."""
    load = run(Plan(url, [Call("/202", {"a": 1}, status=202)], connections=2, count=6))

    assert load.statuses == {202: 6}
    assert load.wrong == 0


def test_an_interval_paces_a_connection(url: str) -> None:
    """Ten requests have nine gaps."""
    load = run(Plan(url, [Call("/200", {})], count=10, interval_ms=20))

    assert load.seconds >= 9 * 0.02


def test_after_the_time_no_request_is_begun(url: str) -> None:
    """Without a count the time is the end."""
    began_s = time.monotonic()

    load = run(Plan(url, [Call("/200", {})], seconds=0.2))

    assert len(load.latencies_ms) > 1
    assert 0.2 <= load.seconds < time.monotonic() - began_s


def test_what_it_cannot_read_ends_the_client(url: str) -> None:
    """It finds a body's end by Content-Length alone."""
    with pytest.raises(LoadError, match="no Content-Length"):
        run(Plan(url, [Call("/203", {})], count=1))


def test_a_server_that_is_not_there_ends_the_client(url: str) -> None:
    """Rather than count failures at full speed."""
    nobody = f"{url.rpartition(':')[0]}:1"

    with pytest.raises(LoadError, match=r"[Cc]onnect"):
        run(Plan(nobody, [Call("/200", json.dumps({}))], count=1))
