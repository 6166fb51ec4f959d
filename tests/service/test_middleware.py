"""Request ids, headers, log lines, and the limit on bodies."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from service.middleware import BodyLimit, RequestLog
from tests.service.conftest import Running, Serve

CHUNK = b" " * 65_536


async def test_a_request_id_is_made_for_who_sends_none(running: Running) -> None:
    """Each request its own."""
    ids = [(await running.client.get("/info")).headers["X-Request-Id"] for _ in range(2)]

    assert [len(request_id) for request_id in ids] == [32, 32]
    assert ids[0] != ids[1]


async def test_a_sent_request_id_is_kept(running: Running) -> None:
    """It comes back in the header and stands in the log line."""
    with capture_logs() as lines:
        response = await running.client.get("/info", headers={"X-Request-Id": "trace-1:a/b="})

    assert response.headers["X-Request-Id"] == "trace-1:a/b="
    assert [line["event"] for line in lines] == ["request"]


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", 'a"b', "a,b", "\xe9"])
async def test_an_unsafe_request_id_is_replaced(running: Running, sent: str) -> None:
    """Nobody writes into our log what they like."""
    response = await running.client.get("/info", headers={b"X-Request-Id": sent.encode()})

    assert len(response.headers["X-Request-Id"]) == 32


async def test_responses_carry_timings_and_safe_headers(running: Running) -> None:
    """All stages of a recommendation, in milliseconds."""
    headers = (await running.recommend(history=["item-1"])).headers

    stages = [stage.partition(";dur=") for stage in headers["Server-Timing"].split(", ")]
    assert [name for name, _, _ in stages] == ["queue", "history", "model", "total"]
    assert all(float(ms) >= 0 for _, _, ms in stages)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


async def test_a_request_is_one_log_line(running: Running) -> None:
    """What an operator looks for, and no word about who the user is or was shown."""
    with capture_logs() as lines:
        response = await running.recommend(user_id="ann", history=["item-1"], limit=3)

    (line,) = lines
    assert {name: line[name] for name in ("event", "method", "path", "status", "source")} == {
        "event": "request",
        "method": "POST",
        "path": "/recommend",
        "status": 200,
        "source": "model",
    }
    assert line["recommendation_id"] == response.json()["recommendation_id"]
    assert {"queue_ms", "history_ms", "model_ms", "total_ms", "batch_rows"} <= line.keys()
    assert "ann" not in str(line)
    assert "item-" not in str(line)


async def test_a_failure_is_logged_with_its_code(running: Running) -> None:
    """The code that the caller was told."""
    with capture_logs() as lines:
        await running.recommend()

    assert [(line["status"], line["code"]) for line in lines] == [(422, "invalid_request")]


async def test_probes_are_logged_only_when_they_fail(running: Running) -> None:
    """A line every second that says nothing hides the others."""
    with capture_logs() as lines:
        await running.client.get("/health/live")
        await running.client.get("/health/ready")
        running.app.state.lifecycle.drain()
        await running.client.get("/health/ready")

    assert [(line["path"], line["status"]) for line in lines] == [("/health/ready", 503)]


@pytest.mark.parametrize(
    ("headers", "max_chunks_read"),
    [({"Content-Length": str(160 * len(CHUNK))}, 0), ({}, 5)],
    ids=["declared", "chunked"],
)
async def test_a_10_mb_body_is_refused_without_being_read(
    running: Running, headers: dict[str, str], max_chunks_read: int
) -> None:
    """A declared length is enough; else the limit of four chunks is passed with the fifth."""
    num_read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal num_read
        for _ in range(160):
            num_read += 1
            yield CHUNK

    response = await running.client.post(
        "/recommend", content=body(), headers={"Content-Type": "application/json", **headers}
    )

    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert num_read == max_chunks_read


async def test_a_body_of_the_limit_is_read(serve: Serve) -> None:
    """The limit itself is allowed; one byte more is not."""
    body = b'{"user_id":"u"}'

    async with serve(max_body_bytes=len(body)) as running:
        headers = {"Content-Type": "application/json"}
        post = running.client.post
        within = await post("/recommend", content=body, headers=headers)
        beyond = await post("/recommend", content=body + b" ", headers=headers)

    assert (within.status_code, beyond.status_code) == (200, 413)
    assert beyond.headers["Content-Type"] == "application/problem+json"
    assert beyond.headers["Connection"] == "close"
    assert beyond.json()["code"] == "body_too_large"


async def test_what_is_no_request_passes_through() -> None:
    """The server's start and end reach the app behind the middleware."""
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        passed.append(scope["type"])

    async def nothing(*_: object) -> Any:
        raise AssertionError

    for middleware in (RequestLog(app), BodyLimit(app, max_body_bytes=1)):
        await middleware({"type": "lifespan"}, nothing, nothing)

    assert passed == ["lifespan", "lifespan"]


async def test_a_request_that_is_cancelled_is_still_answered() -> None:
    """When the server gives up on a request, the client learns it by a problem; once begun, not."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def never() -> Any:
        raise AssertionError

    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        raise asyncio.CancelledError

    async def cancelled_late(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError

    for app in (cancelled, cancelled_late):
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        with pytest.raises(asyncio.CancelledError):
            await RequestLog(app)(scope, never, send)

    statuses = [message["status"] for message in sent if message["type"] == "http.response.start"]
    assert statuses == [503, 200]


async def test_any_endpoint_refuses_long_bodies(running: Running) -> None:
    """Also those that read no body."""
    response = await running.client.request("GET", "/health/live", content=b" " * 262_145)

    assert response.status_code == 413
