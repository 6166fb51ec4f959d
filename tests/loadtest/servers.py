"""Services that fail in one way each, over real HTTP."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

ITEM = {
    "item_id": "a",
    "title": "A",
    "popularity": 3,
    "available": True,
    "attributes": {"year": 1999, "categories": ["Comedy"]},
}
FIXED = {
    "/health/ready": {"status": "ready"},
    "/events": {"applied": 1, "duplicates": 0, "unknown_items": []},
}
Answer = Callable[[str], tuple[int, Any]]
"""Status and body of a request to this path."""


def recommending(*item_ids: str) -> Answer:
    """Every user is recommended these items, whatever they did."""

    def answer(path: str) -> tuple[int, Any]:
        if path.startswith("/items"):
            return 200, {"items": [ITEM], "total": 1}
        if path.startswith("/recommend"):
            return 200, {"items": [{"item_id": item} for item in item_ids], "degraded": []}
        return 200, FIXED.get(path, {"user_id": "u", "num_items": 0, "items": []})

    return answer


def refusing_half() -> Answer:
    """Every other recommendation is refused with 429; nobody is recommended anything."""
    places = count()
    otherwise = recommending()

    def answer(path: str) -> tuple[int, Any]:
        if path.startswith("/recommend") and next(places) % 2:
            return 429, {"code": "overloaded"}
        return otherwise(path)

    return answer


def failing() -> Answer:
    """Every recommendation is a 500."""
    otherwise = recommending()
    return lambda path: (500, {}) if path.startswith("/recommend") else otherwise(path)


def stalling(after: int, for_s: float) -> Answer:
    """One request at a time, in no time; but once all wait."""
    places, one_at_a_time = count(), threading.Lock()
    otherwise = recommending()

    def answer(path: str) -> tuple[int, Any]:
        with one_at_a_time:
            if path.startswith("/recommend") and next(places) == after:
                time.sleep(for_s)  # the fault itself
            return otherwise(path)

    return answer


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The address of a server that answers so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            """Read the body, then answer."""
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer(self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_DELETE = do_POST  # noqa: N815  # the library's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
