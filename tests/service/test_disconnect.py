"""A client who leaves frees its place: the row is dropped, the line says 499."""

import asyncio

import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope
from structlog.testing import capture_logs

from service.disconnect import CancelledOnDisconnect
from service.errors import ClientClosedRequestError
from tests.service.conftest import Running
from tests.service.fakes import FakeEngine

SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/recommend",
    "raw_path": b"/recommend",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"content-type", b"application/json")],
    "http_version": "1.1",
    "scheme": "http",
    "server": ("service", 80),
    "client": ("127.0.0.1", 1),
}


async def call_and_leave(app: FastAPI, gone: asyncio.Event) -> list[Message]:
    """POST /recommend as a server would, the client leaving at `gone`; what the app sent."""
    sent: list[Message] = []
    body: list[Message] = [
        {"type": "http.request", "body": b'{"history":["item-2"]}', "more_body": False},
        {"type": "http.request", "body": b"", "more_body": False},
    ]

    async def receive() -> Message:
        if body:
            return body.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(dict(SCOPE), receive, send)
    return sent


async def test_who_leaves_the_queue_is_never_computed(running: Running, engine: FakeEngine) -> None:
    """The place is free at once, while the model is still busy with another."""
    engine.gate.clear()
    gone = asyncio.Event()
    first = asyncio.create_task(running.recommend(history=["item-1"]))
    await engine.until_busy()
    with capture_logs() as lines:
        leaver = asyncio.create_task(call_and_leave(running.app, gone))
        await running.until_waiting(1)
        gone.set()
        sent = await leaver
    await running.until_waiting(0)
    engine.gate.set()

    assert (await first).status_code == 200
    assert sent[0]["status"] == 499
    assert [(line["status"], line["code"]) for line in lines] == [(499, "client_closed_request")]
    assert engine.batch_sizes == [1]


async def test_who_leaves_a_batch_takes_nobody_along(running: Running, engine: FakeEngine) -> None:
    """The model goes on with the batch; the next one is served."""
    engine.gate.clear()
    gone = asyncio.Event()
    leaver = asyncio.create_task(call_and_leave(running.app, gone))
    await engine.until_busy()
    gone.set()
    sent = await leaver
    engine.gate.set()

    assert sent[0]["status"] == 499
    assert (await running.recommend(history=["item-1"])).status_code == 200


async def test_another_cancellation_passes_through() -> None:
    """Only the client's leaving becomes an error; a server that stops us stops us."""
    never = asyncio.Event()
    inside = asyncio.Event()

    async def receive() -> Message:
        await never.wait()
        raise AssertionError

    async def work() -> None:
        async with CancelledOnDisconnect(receive):
            inside.set()
            await never.wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_leaving_cancels_whatever_is_waited_for() -> None:
    """The block ends with ClientClosedRequestError, and the task can go on."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientClosedRequestError):
        async with CancelledOnDisconnect(receive):
            await asyncio.Event().wait()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
