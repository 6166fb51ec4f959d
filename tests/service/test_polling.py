"""A service that looks for newer versions and other plans by itself."""

import asyncio
from pathlib import Path

from tests.service.conftest import write_bundle
from tests.service.versions import damage, serving, until, version


async def test_polling_finds_a_newer_version_and_no_older_one(folder: Path) -> None:
    """It comes to serve by itself; what it replaced stays for a rollback."""
    async with serving(folder, bundle_poll_s=0.01) as (client, app):
        write_bundle(folder, "v0")
        write_bundle(folder, "v3")
        await until(lambda: app.state.models.lineup.active.version.name == "v3")
        now = await version(client)
        models = (await client.get("/models")).json()

    assert now == "v3"
    assert {model["version"] for model in models["loaded"]} == {"v2", "v3"}


async def test_polling_passes_over_a_damaged_version_until_it_is_mended(folder: Path) -> None:
    """It is tried once, not at every look, and again when its files changed."""
    write_bundle(folder.parent / "elsewhere", "v3")
    async with serving(folder, bundle_poll_s=0.01) as (client, app):
        sample = app.state.metrics.registry.get_sample_value
        broken = folder.parent / "elsewhere" / "v3"
        whole = (broken / "model.safetensors").read_bytes()
        damage(broken)
        broken.rename(folder / "v3")
        await until(lambda: sample("stamp_model_loads_total", {"result": "failed"}))
        await asyncio.sleep(0.1)
        failures = sample("stamp_model_loads_total", {"result": "failed"})
        meanwhile = await version(client)
        (folder / "v3" / "model.safetensors").write_bytes(whole)
        await until(lambda: app.state.models.lineup.active.version.name == "v3")

    assert (failures, meanwhile) == (1, "v2")


async def test_polling_follows_a_plan_that_another_replica_wrote(folder: Path) -> None:
    """Also one that is broken for a while."""
    async with serving(folder, bundle_poll_s=0.01) as (client, app):
        (folder / "serving.json").write_text("{", encoding="utf-8")
        await asyncio.sleep(0.05)
        meanwhile = await version(client)
        (folder / "serving.json").write_text('{"active": "v1"}', encoding="utf-8")
        await until(lambda: app.state.models.lineup.active.version.name == "v1")

    assert meanwhile == "v2"


async def test_a_change_that_cannot_be_kept_lasts_as_long_as_the_process(folder: Path) -> None:
    """The answer says so, and polling does not take it back."""
    nowhere = folder.parent / "none" / "serving.json"
    async with serving(folder, bundle_poll_s=0.01, plan_file=nowhere) as (client, _):
        kept = (await client.post("/models/v1/activate")).json()["plan_kept"]
        await asyncio.sleep(0.05)
        still = await version(client)

    assert (kept, still) == (False, "v1")


async def test_a_damaged_newest_version_does_not_keep_the_service_from_starting(
    folder: Path,
) -> None:
    """The newest that loads serves."""
    damage(folder / "v2")

    async with serving(folder) as (client, _):
        assert await version(client) == "v1"
