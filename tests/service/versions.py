"""A service on a folder of versions, and what tests do to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from service.app import create_app
from tests.service.conftest import client_of, settings_for
from tests.service.fakes import PATIENCE_S

BODY = {"history": ["i1", "i2"], "limit": 5}


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    """A client of a service on the folder's versions, and the service."""
    is_ready = asyncio.Event()
    app = create_app(settings_for(folder, **changes), on_ready=lambda _: is_ready.set())
    async with app.router.lifespan_context(app), client_of(app) as client:
        await asyncio.wait_for(is_ready.wait(), PATIENCE_S)
        yield client, app


async def version(client: httpx.AsyncClient, **more: Any) -> str:
    """Which version answers."""
    headers = more.pop("headers", None)
    response = await client.post("/recommend", json={**BODY, **more}, headers=headers)
    assert response.status_code == 200, response.text
    return str(response.json()["model"]["version"])


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that happens in the background."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # nothing in the service tells
            await asyncio.sleep(0.005)


def damage(bundle: Path) -> None:
    """Change one byte in the middle of the weights."""
    path = bundle / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def item_ids(response: httpx.Response) -> list[str]:
    """What was recommended, in order."""
    return [item["item_id"] for item in response.json()["items"]]
