"""From start to end: loading, warming, ready, draining, failed; and what each answers."""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest

from model.errors import BundleError
from model.rehearsal import Timing
from service.app import create_app
from service.errors import StartupError
from tests.service.conftest import Running, Serve, client_of, settings_for, write_bundle
from tests.service.fakes import PATIENCE_S, FakeEngine, fake_bundle


async def readiness(client: httpx.AsyncClient) -> tuple[int, str]:
    """The status of /health/ready, and its reason or state."""
    response = await client.get("/health/ready")
    body = response.json()
    return response.status_code, body.get("reason") or body["status"]


async def test_the_service_answers_while_the_engine_comes_up(
    tmp_path: Path, engine: FakeEngine
) -> None:
    """Alive from the start; 503 with the reason until the engine is warm; then ready."""
    may_load, may_warm, is_warming, is_ready = (threading.Event() for _ in range(4))

    def rehearse(max_rows: int, max_tokens: int) -> list[Timing]:  # noqa: ARG001  # Engine's
        is_warming.set()
        assert may_warm.wait(PATIENCE_S)
        return []

    def load(*_: object) -> FakeEngine:
        assert may_load.wait(PATIENCE_S)
        return engine

    engine.rehearse = rehearse  # type: ignore[method-assign]
    app = create_app(settings_for(fake_bundle(tmp_path)), load, lambda _: is_ready.set())  # type: ignore[arg-type]
    async with app.router.lifespan_context(app), client_of(app) as client:
        alive = await client.get("/health/live")
        loading = await readiness(client)
        refused = await client.post("/recommend", json={"history": ["item-1"]})
        may_load.set()
        assert await asyncio.to_thread(is_warming.wait, PATIENCE_S)
        warming = await readiness(client)
        may_warm.set()
        assert await asyncio.to_thread(is_ready.wait, PATIENCE_S)
        ready = await readiness(client)

    assert alive.status_code == 200
    assert (loading, warming, ready) == ((503, "loading"), (503, "warming"), (200, "ready"))
    assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
    assert refused.json()["reason"] == "loading"
    assert refused.headers["Retry-After"] == "2"


async def test_a_draining_service_is_not_ready_but_answers(running: Running) -> None:
    """Load balancers go elsewhere; who is still here is served."""
    running.app.state.lifecycle.drain()

    assert await readiness(running.client) == (503, "draining")
    assert (await running.recommend(history=["item-1"])).status_code == 200


async def test_a_batch_that_takes_too_long_makes_the_service_not_ready(
    serve: Serve, engine: FakeEngine
) -> None:
    """Progress is what readiness looks at; the probe itself waits for nothing."""
    engine.gate.clear()
    async with serve(stall_after_s=1e-6) as running:
        stuck = asyncio.create_task(running.recommend(history=["item-1"]))
        await engine.until_busy()
        stalled = await readiness(running.client)
        alive = await running.client.get("/health/live")
        engine.gate.set()
        await stuck
        after = await readiness(running.client)

    assert (stalled, alive.status_code, after) == ((503, "stalled"), 200, (200, "ready"))
    assert engine.batch_sizes == [1]


async def test_the_real_engine_serves_a_bundle(tmp_path: Path) -> None:
    """The newest version of an untrained bundle, behind every interface that FakeEngine plays."""
    write_bundle(tmp_path, "v1")
    is_ready = asyncio.Event()
    app = create_app(settings_for(tmp_path), on_ready=lambda _: is_ready.set())

    async with app.router.lifespan_context(app), client_of(app) as client:
        await asyncio.wait_for(is_ready.wait(), PATIENCE_S)
        warm = await client.post("/recommend", json={"history": ["i1", "i2"], "explain": True})
        cold = await client.post("/recommend", json={"user_id": "nobody", "limit": 3})

    known = {f"i{index}" for index in range(40)}
    assert {item["item_id"] for item in warm.json()["items"]} <= known - {"i1", "i2"}
    assert len(warm.json()["items"]) == 10
    assert warm.json()["explanation"]["tokens_in"] == 6
    assert warm.json()["model"] == {"name": "tiny", "version": "v1"}
    assert {item["item_id"] for item in cold.json()["items"]} <= known
    assert cold.json()["source"] == "popularity"


@pytest.mark.parametrize("error", [BundleError("x.safetensors: damaged"), RuntimeError("a bug")])
async def test_an_engine_that_does_not_load_fails_the_service(
    tmp_path: Path, error: Exception
) -> None:
    """The reason is `failed`, and the lifecycle keeps the error for the exit."""

    def load(*_: object) -> FakeEngine:
        raise error

    app = create_app(settings_for(fake_bundle(tmp_path)), load)  # type: ignore[arg-type]
    async with app.router.lifespan_context(app), client_of(app) as client:
        async with asyncio.timeout(PATIENCE_S):
            while app.state.lifecycle.failure is None:  # noqa: ASYNC110  # only the exit looks at it
                await asyncio.sleep(0)
        failed = await readiness(client)

    assert failed == (503, "failed")
    assert app.state.lifecycle.failure is error


async def test_stopping_while_the_engine_loads_waits_for_nothing(tmp_path: Path) -> None:
    """The lifespan ends though the loader has not."""
    may_load = threading.Event()

    def load(*_: object) -> FakeEngine:
        assert may_load.wait(PATIENCE_S)
        return FakeEngine()

    app = create_app(settings_for(fake_bundle(tmp_path)), load)  # type: ignore[arg-type]
    async with app.router.lifespan_context(app):
        pass
    may_load.set()

    assert app.state.lifecycle.state == "draining"


def test_a_store_that_does_not_open_is_known_before_listening(tmp_path: Path) -> None:
    """create_app raises, so that nothing begins to listen."""
    with pytest.raises(StartupError, match="history store"):
        create_app(settings_for(tmp_path, history_url="nonsense://"))


async def test_info_tells_model_and_limits(running: Running) -> None:
    """Whoever tunes a client finds what it may ask for."""
    info = (await running.client.get("/info")).json()

    assert info["service"] == "STAMP Recommender"
    assert info["model"] == {
        "name": "fake",
        "version": "1",
        "metrics": {"recall@10": 0.5},
        "num_items": 20,
        "retention_ratios": [0.5, 1.0],
        "device": "cpu",
        "dtype": "float32",
        "kernels": "torch",
        "compiled_batch_sizes": [],
    }
    assert info["limits"]["max_limit"] == 100
    assert info["limits"]["max_beam_width"] == 200


async def test_the_documentation_is_served(running: Running) -> None:
    """/docs is a page whose script reads /openapi.json."""
    paths = ("/docs", "/docs/docs.js", "/openapi.json")
    page, script, document = [await running.client.get(path) for path in paths]

    assert page.headers["Content-Type"].startswith("text/html")
    assert paths[1] in page.text
    assert paths[2] in script.text
    assert set(document.json()["paths"]) == {
        "/recommend",
        "/recommend/batch",
        "/events",
        "/users/{user_id}/history",
        "/items",
        "/items/{item_id}",
        "/models",
        "/models/{version}/activate",
        "/models/rollback",
        "/models/plan",
        "/health/live",
        "/health/ready",
        "/info",
        "/metrics",
    }
