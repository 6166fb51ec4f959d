"""Versions come and go while requests are answered, on real engines."""

import asyncio
import json
import weakref
from pathlib import Path

import httpx
import pytest

from service.bundles import BundleFolder
from service.models import Models
from tests.service.conftest import settings_for, write_bundle
from tests.service.versions import BODY, damage, item_ids, serving, until, version

NEW = {"title": "New", "attributes": {"brand": "c", "year": 2026}, "vector": [0.1, 0.2, 0.3, 0.4]}


async def test_a_version_takes_over_and_a_rollback_takes_it_back(folder: Path) -> None:
    """The next request already; a second rollback goes forward again."""
    async with serving(folder) as (client, _):
        versions = [await version(client)]
        for path in ("/models/v1/activate", "/models/rollback", "/models/rollback"):
            response = await client.post(path)
            assert response.status_code == 200, response.text
            versions.append(await version(client))
        info = (await client.get("/info")).json()

    assert versions == ["v2", "v1", "v2", "v1"]
    assert info["model"]["version"] == "v1"


async def test_a_choice_outlives_the_process_until_newest_is_chosen(folder: Path) -> None:
    """It is kept beside the versions, for every replica that shares them."""
    async with serving(folder) as (client, _):
        kept = (await client.post("/models/v1/activate")).json()["plan_kept"]
    async with serving(folder) as (client, _):
        restarted = await version(client)
        await client.post("/models/newest/activate")
        followed = await version(client)

    assert (kept, restarted, followed) == (True, "v1", "v2")
    assert json.loads((folder / "serving.json").read_text())["active"] == "newest"


async def test_the_list_tells_who_is_there_for_what(folder: Path) -> None:
    """All that a person needs before a change."""
    async with serving(folder) as (client, _):
        before = (await client.get("/models")).json()
        await client.post("/models/v1/activate")
        after = (await client.get("/models")).json()

    assert (before["active"], before["previous"]) == ("v2", None)
    assert [model["version"] for model in before["available"]] == ["v2", "v1"]
    assert [model["version"] for model in before["loaded"]] == ["v2"]
    assert before["plan"] == {"active": "newest", "split": {}, "shadow": None}
    assert {model["version"]: model["roles"] for model in after["loaded"]} == {
        "v1": ["active"],
        "v2": ["previous"],
    }


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/models/v3/activate", 404, "model_not_found"),
        ("/models/v1/activate", 409, "model_unusable"),
        ("/models/rollback", 409, "no_previous_model"),
    ],
)
async def test_a_change_that_cannot_be_made_changes_nothing(
    folder: Path, path: str, status: int, code: str
) -> None:
    """Unknown, damaged, or none before: the same version goes on serving."""
    damage(folder / "v1")
    async with serving(folder) as (client, _):
        response = await client.post(path)
        still = await version(client)
        models = (await client.get("/models")).json()

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert still == "v2"
    assert [model["version"] for model in models["loaded"]] == ["v2"]
    assert not (folder / "serving.json").exists()


async def test_a_split_sends_each_user_always_to_the_same_version(folder: Path) -> None:
    """Both versions get users, and nobody moves; those without a name get the active one."""
    plan = {"active": "v2", "split": {"v1": 50}}
    async with serving(folder) as (client, _):
        response = await client.put("/models/plan", json=plan)
        rounds = [
            [await version(client, user_id=f"user-{number}") for number in range(30)]
            for _ in range(2)
        ]
        nameless = await version(client)

    assert response.status_code == 200, response.text
    assert rounds[0] == rounds[1]
    assert set(rounds[0]) == {"v1", "v2"}
    assert nameless == "v2"


async def test_a_pinned_version_answers_if_it_is_loaded(folder: Path) -> None:
    """Whatever the plan says; one that is not loaded is not."""
    async with serving(folder) as (client, _):
        await client.put("/models/plan", json={"active": "v2", "shadow": {"version": "v1"}})
        pinned = await version(client, headers={"X-Model-Version": "v1"})
        refused = await client.post("/recommend", json=BODY, headers={"X-Model-Version": "v3"})
        batch = await client.post(
            "/recommend/batch", json={"requests": [BODY]}, headers={"X-Model-Version": "v3"}
        )

    assert pinned == "v1"
    assert (refused.status_code, refused.json()["code"]) == (404, "model_not_loaded")
    assert batch.json()["results"][0]["status"] == 404


async def test_a_shadow_is_compared_and_not_heard(folder: Path) -> None:
    """Two versions of the same weights agree wholly; answers are counted once."""
    plan = {"active": "v2", "shadow": {"version": "v1", "percent": 100}}
    async with serving(folder) as (client, app):
        await client.put("/models/plan", json=plan)
        answered = [await version(client) for _ in range(3)]
        sample = app.state.metrics.registry.get_sample_value
        await until(lambda: sample("stamp_shadow_items_total") == 15)
        agreed = sample("stamp_shadow_items_agreed_total")
        counted = sample("stamp_answers_total", {"source": "model"})

    assert answered == ["v2"] * 3
    assert (agreed, counted) == (15, 3)


async def test_beams_are_checked_against_an_exact_search(folder: Path) -> None:
    """A beam as wide as the catalog misses nothing, one of a few prefixes may."""
    async with serving(folder, beam_check_percent=100) as (client, app):
        await version(client, beam_width=100)
        sample = app.state.metrics.registry.get_sample_value
        await until(lambda: sample("stamp_beam_check_items_total") == 5)
        found = sample("stamp_beam_check_items_found_total")
        cold = await client.post("/recommend", json={"user_id": "nobody"})

    assert found == 5
    assert cold.json()["source"] == "popularity"


async def test_a_version_that_serves_no_more_is_let_go(folder: Path) -> None:
    """The active one and the one before stay in memory, no others."""
    write_bundle(folder, "v3")
    async with serving(folder) as (client, app):
        first = weakref.ref(app.state.models.lineup.active.engine)
        for name in ("v2", "v1"):
            assert (await client.post(f"/models/{name}/activate")).status_code == 200
        await until(lambda: first() is None)
        models = (await client.get("/models")).json()

    assert {model["version"] for model in models["loaded"]} == {"v1", "v2"}


async def test_a_changed_catalog_is_changed_in_every_version(folder: Path) -> None:
    """In those that are loaded, and in those that are loaded later."""
    changes = folder.parent / "changes.db"
    async with serving(folder, catalog_file=changes) as (client, app):
        await client.put("/models/plan", json={"active": "v2", "split": {"v1": 50}})
        await client.put("/items/new", json=NEW)
        await client.delete("/items/i7")
        write_bundle(folder, "v3")
        await client.post("/models/newest/activate")
        models: Models = app.state.models
        known = [engine.catalog.index_of("new") for engine in models.engines()]
        removed = [engine.inventory.is_removed(7) for engine in models.engines()]

    assert known == [40, 40, 40]
    assert removed == [True, True, True]


async def test_requests_are_answered_all_along_while_versions_change(folder: Path) -> None:
    """Twenty switches under load: each answer is whole, of one of the versions, and right."""
    async with serving(folder) as (client, _):
        expected = item_ids(await client.post("/recommend", json=BODY))
        answers: list[httpx.Response] = []

        async def ask_on() -> None:
            while True:
                answers.append(await client.post("/recommend", json=BODY))

        callers = [asyncio.create_task(ask_on()) for _ in range(8)]
        for switch in range(20):
            response = await client.post(f"/models/v{switch % 2 + 1}/activate")
            assert response.status_code == 200, response.text
        await until(lambda: len(answers) > 100)
        for caller in callers:
            caller.cancel()

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model"]["version"] for answer in answers} == {"v1", "v2"}
    assert all(item_ids(answer) == expected for answer in answers)


def test_a_folder_leaves_out_what_is_no_version(folder: Path) -> None:
    """A half-written one, a stray file, a hidden one."""
    (folder / "v9").mkdir()
    (folder / "v9" / "manifest.json").write_text("{", encoding="utf-8")
    (folder / ".v8.part").mkdir()
    (folder / "notes.txt").write_text("x", encoding="utf-8")

    assert [version.name for version in BundleFolder(folder).versions()] == ["v2", "v1"]


def test_a_folder_may_be_one_version(folder: Path) -> None:
    """Then its plan is beside it: a bundle has no files but its own."""
    settings = settings_for(folder / "v1")

    assert [version.name for version in BundleFolder(folder / "v1").versions()] == ["v1"]
    assert settings.plan_path == folder / "v1.serving.json"
