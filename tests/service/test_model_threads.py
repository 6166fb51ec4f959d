"""Several model threads: answers stay right, and a change to the catalog is alone with it."""

import asyncio
from pathlib import Path

import httpx
import pytest

from service.errors import StartupError
from service.settings import load_settings
from tests.service.versions import item_ids, serving

CHANGES = 12


def body(number: int) -> dict[str, object]:
    """One of several requests, each with rules of its own."""
    filters = [None, {"where": "year >= 1992"}, {"where": "brand = 'a'"}]
    history = [f"i{(7 * number + place) % 40}" for place in range(1 + number % 5)]
    return {"history": history, "limit": 5, "filter": filters[number % 3]}


async def test_answers_are_those_of_one_thread(folder: Path) -> None:
    """Item by item, whoever is computed beside them."""
    answers = []
    for model_threads in (1, 3):
        async with serving(folder, model_threads=model_threads, max_batch_rows=4) as (client, _):
            asked = (client.post("/recommend", json=body(number)) for number in range(60))
            answers.append([item_ids(response) for response in await asyncio.gather(*asked)])

    assert answers[0] == answers[1]


async def test_the_catalog_changes_under_load(folder: Path) -> None:
    """Nobody gets an item once it is out; every item that came in is found; nothing fails."""
    settings = {"model_threads": 3, "catalog_file": folder.parent / "changes.db"}
    vector = [0.1, 0.2, 0.3, 0.4]
    async with serving(folder, **settings, max_batch_rows=4) as (client, _):
        responses: list[httpx.Response] = []

        async def ask_on() -> None:
            while True:
                responses.append(await client.post("/recommend", json=body(len(responses))))

        callers = [asyncio.create_task(ask_on()) for _ in range(8)]
        for number in range(CHANGES):
            item = {"title": f"New {number}", "attributes": {"year": 2000}, "vector": vector}
            put = await client.put(f"/items/new-{number}", json=item)
            assert put.status_code == 200, put.text
            found = await client.post(
                "/recommend",
                json={"history": ["i1"], "filter": {"allow": [f"new-{number}"]}},
            )
            assert item_ids(found) == [f"new-{number}"]
            gone = f"i{number}"
            assert (await client.delete(f"/items/{gone}")).status_code == 204
            after = await client.post("/recommend", json={"history": ["i39"], "limit": 40})
            assert gone not in item_ids(after)
        for caller in callers:
            caller.cancel()

    assert len(responses) > CHANGES
    assert {response.status_code for response in responses} == {200}


def test_several_threads_need_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU computes one batch at a time anyway, and its memory is for one."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError, match="STAMP_MODEL_THREADS=2: only a CPU"):
        load_settings(bundle_dir=tmp_path, device="cuda", model_threads=2)
