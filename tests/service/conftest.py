"""The real app in this process, around a fake engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from model.bundle import save_bundle
from model.engine import Engine
from service.app import create_app
from service.settings import Settings
from tests.factories import random_bundle
from tests.service.fakes import PATIENCE_S, FakeEngine, fake_bundle
from tests.service.history import servers
from tests.service.process import Process
from tests.service.work import IntBatcher, Work, batcher_of


@dataclass(frozen=True)
class Running:
    """A service that is ready, and a client of it."""

    app: FastAPI
    client: httpx.AsyncClient

    async def recommend(self, **body: object) -> httpx.Response:
        """The response to POST /recommend."""
        return await self.client.post("/recommend", json=body)

    async def until_waiting(self, num_rows: int) -> None:
        """Wait until so many requests are in the queue."""
        async with asyncio.timeout(PATIENCE_S):
            batcher = self.app.state.models.lineup.active.recommender.batcher
            while batcher.num_waiting() != num_rows:  # noqa: ASYNC110  # nothing in the service tells
                await asyncio.sleep(0)


Start = Callable[..., Process]
Serve = Callable[..., AbstractAsyncContextManager[Running]]


def settings_for(folder: Path, **changes: Any) -> Settings:
    """Settings that read nothing from outside."""
    return Settings(_env_file=None, **{"bundle_dir": folder, "history_url": "memory://", **changes})


def write_bundle(folder: Path, version: str) -> None:
    """Save an untrained bundle."""
    bundle = random_bundle()
    manifest = bundle.manifest.model_copy(update={"version": version})
    save_bundle(
        folder, manifest, bundle.build_model(), bundle.catalog, bundle.sids, bundle.placement
    )


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client that calls the app directly; a bug in the app becomes the response it would be."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://service")


@pytest.fixture
def engine() -> FakeEngine:
    """The engine behind `running` and `serve`."""
    return FakeEngine()


@pytest.fixture
def serve(tmp_path: Path, engine: FakeEngine) -> Serve:
    """Run a service with some settings changed."""

    @asynccontextmanager
    async def serve(**changes: object) -> AsyncIterator[Running]:
        is_ready = asyncio.Event()

        def on_ready(_: Engine) -> None:
            is_ready.set()

        settings = settings_for(fake_bundle(tmp_path / "bundles"), **changes)
        app = create_app(settings, engine.load, on_ready)
        async with app.router.lifespan_context(app), client_of(app) as client:
            await asyncio.wait_for(is_ready.wait(), PATIENCE_S)
            yield Running(app, client)
            engine.gate.set()

    return serve


@pytest.fixture
async def running(serve: Serve) -> AsyncIterator[Running]:
    """A service with the default settings and an empty history store."""
    async with serve() as running:
        yield running


@pytest.fixture(scope="session")
def valkey() -> Iterator[servers.Server]:
    """A Valkey for all tests; each has a prefix of its own."""
    with servers.running(servers.VALKEY) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two untrained versions, v2 the newer one."""
    bundles = tmp_path / "bundles"
    for version in ("v1", "v2"):
        write_bundle(bundles, version)
    return bundles


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that end with the test."""
    processes: list[Process] = []

    def start(*arguments: str, **variables: str) -> Process:
        processes.append(Process(*arguments, **variables))
        return processes[-1]

    yield start
    for process in processes:
        process.stop()


@pytest.fixture
def work() -> Work:
    """The work behind `batcher`."""
    return Work()


@pytest.fixture
async def batcher(work: Work) -> AsyncIterator[IntBatcher]:
    """A running batcher."""
    async with batcher_of(work) as batcher:
        yield batcher
        work.gate.set()
