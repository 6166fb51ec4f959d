"""What a replica under Ray does, without Ray: the real app, with and without a model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from service.errors import StartupError
from service.ray_replica import build_replica, check_health, follow, until_ready
from tests.service.conftest import client_of
from tests.service.versions import damage, version


@asynccontextmanager
async def replica(folder: Path) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """A replica as Ray runs it: built, then its lifespan begun."""
    flags = {"bundle_dir": str(folder), "history_url": f"sqlite:///{folder.parent}/histories.db"}
    app = build_replica(flags, lambda _: None)  # this process is the tests'
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield app, client


async def test_it_waits_for_its_model(folder: Path) -> None:
    """Ray sends requests only when this returns."""
    async with replica(folder) as (app, client):
        before = (await client.get("/health/ready")).status_code
        await until_ready(app)
        after = (await client.get("/health/ready")).status_code
        check_health(app)

    assert (before, after) == (503, 200)


async def test_it_fails_with_the_reason(folder: Path) -> None:
    """Ray shows it, and tries another replica."""
    for name in ("v1", "v2"):
        damage(folder / name)
    async with replica(folder) as (app, _):
        with pytest.raises(StartupError, match="SHA-256"):
            await until_ready(app)
        with pytest.raises(StartupError, match="SHA-256"):
            check_health(app)


async def test_it_follows_a_plan(folder: Path) -> None:
    """The document of serving.json, also before the model is there."""
    async with replica(folder) as (app, client):
        carried_out = await follow(app, {"active": "v1"})
        first = await version(client)
        await follow(app, {"active": "newest"})
        second = await version(client)

    assert carried_out
    assert (first, second) == ("v1", "v2")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"active": "v9"}, "No version v9"),
        ({"activ": "v1"}, "user_config: activ: Extra inputs are not permitted"),
    ],
)
async def test_a_plan_that_fails_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], document: dict[str, str], reason: str
) -> None:
    """It serves what it did, and says why in the log."""
    async with replica(folder) as (app, client):
        await follow(app, {"active": "v1"})
        carried_out = await follow(app, document)
        after = await version(client)

    assert not carried_out
    assert after == "v1"
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"history_url": "memory://"}, "histories of its own"),
        ({"history_url": "redis://127.0.0.1:1", "metrics_port": 9090}, "Ray opens the ports"),
        ({"history_url": "redis://127.0.0.1:1", "beam": 3}, "STAMP_BEAM is not a setting"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    folder: Path, flags: dict[str, object], reason: str
) -> None:
    """One line, which Ray shows."""
    with pytest.raises(StartupError, match=reason):
        build_replica({"bundle_dir": str(folder), **flags})
