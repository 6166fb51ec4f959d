"""The catalog over HTTP, on a real engine: what is changed is found, kept, and found again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.errors import StartupError
from tests.service.conftest import client_of, settings_for, write_bundle
from tests.service.fakes import PATIENCE_S

HISTORY = {"history": ["i1", "i2"], "limit": 50, "exclude_seen": False}
NEW = {"title": "New", "attributes": {"brand": "c", "year": 2026}, "vector": [0.1, 0.2, 0.3, 0.4]}


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose changes go into a file of the folder."""
    is_ready = asyncio.Event()
    settings = settings_for(folder, **{"catalog_file": folder.parent / "changes.db", **changes})
    app = create_app(settings, on_ready=lambda _: is_ready.set())
    async with app.router.lifespan_context(app), client_of(app) as client:
        await asyncio.wait_for(is_ready.wait(), PATIENCE_S)
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one untrained bundle of forty items."""
    bundles = tmp_path / "bundles"
    write_bundle(bundles, "v1")
    return bundles


async def found(client: httpx.AsyncClient, **rules: object) -> set[str]:
    """Every item that can be recommended under these rules."""
    response = await client.post("/recommend", json={**HISTORY, **rules})
    assert response.status_code == 200, response.text
    return {item["item_id"] for item in response.json()["items"]}


async def test_a_new_item_is_found_by_the_next_request_and_after_a_restart(folder: Path) -> None:
    """It is placed by its vector, has its attributes in filters, and outlives the process."""
    async with serving(folder) as client:
        response = await client.put("/items/new", json=NEW)
        now = await found(client)
        filtered = await found(client, filter={"where": "brand = 'c'"})
    async with serving(folder) as client:
        later = await found(client)
        item = (await client.get("/items/new")).json()

    assert response.status_code == 200
    assert response.json() == item
    assert (item["attributes"], item["available"]) == ({"brand": "c", "year": 2026}, True)
    assert len(item["sid"]) == 3
    assert "new" in now
    assert filtered == {"new"}
    assert later == now


async def test_an_item_taken_out_is_gone_until_it_is_put_back(folder: Path) -> None:
    """DELETE may be repeated; a PUT without a vector brings it back where it was."""
    async with serving(folder) as client:
        await client.put("/items/new", json=NEW)
        gone = [await client.delete(f"/items/{item}") for item in ("new", "new", "i7")]
        without = await found(client)
    async with serving(folder) as client:
        still_without = await found(client)
        known = (await client.get("/items/new")).json()
        back = await client.put("/items/new", json={"title": "Again"})
        again = await found(client)

    assert [response.status_code for response in gone] == [204, 204, 204]
    assert {"new", "i7"}.isdisjoint(without)
    assert still_without == without
    assert (known["title"], known["available"]) == ("New", False)
    assert (back.json()["sid"], back.json()["available"]) == (known["sid"], True)
    assert again == without | {"new"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"title": "New"}, "needs a vector"),
        ({**NEW, "attributes": {"colour": "red"}}, "no column 'colour'"),
        ({**NEW, "attributes": {"year": "soon"}}, "column 'year'"),
        ({**NEW, "vector": [1.0, 2.0]}, "2"),
        ({**NEW, "vector": [1e300, 0.0, 0.0, 0.0]}, "less than or equal to"),
        ({**NEW, "attributes": {"popularity": 9}}, "popularity"),
    ],
)
async def test_what_the_catalog_cannot_take_changes_nothing(
    folder: Path, body: dict[str, object], words: str
) -> None:
    """422 says why; neither this process nor the next one has the item."""
    async with serving(folder) as client:
        response = await client.put("/items/new", json=body)
        unknown = await client.get("/items/new")
    async with serving(folder) as client:
        later = await client.get("/items/new")

    assert response.status_code == 422
    assert words in response.json()["detail"]
    assert [unknown.status_code, later.status_code] == [404, 404]
    assert later.json()["code"] == "item_not_found"


async def test_without_a_file_the_catalog_cannot_be_changed(folder: Path) -> None:
    """403 names the setting; reading works."""
    async with serving(folder, catalog_file=None) as client:
        put = await client.put("/items/i1", json={"title": "x"})
        deleted = await client.delete("/items/i1")
        page = (await client.get("/items", params={"offset": 38})).json()

    assert [put.json()["code"], deleted.json()["code"]] == ["catalog_read_only"] * 2
    assert "STAMP_CATALOG_FILE" in put.json()["detail"]
    assert [item["item_id"] for item in page["items"]] == ["i38", "i39"]
    assert page["total"] == 40


async def test_unknown_items_are_not_found(folder: Path) -> None:
    """404 for reading and taking out."""
    async with serving(folder) as client:
        statuses = [
            (await client.get("/items/nothing")).status_code,
            (await client.delete("/items/nothing")).status_code,
        ]

    assert statuses == [404, 404]


def test_a_file_that_is_no_journal_ends_the_start(folder: Path) -> None:
    """One readable line."""
    path = folder.parent / "changes.db"
    path.write_text("not a database, and long enough to be sure of that" * 10)

    with pytest.raises(StartupError, match=r"catalog file .*changes\.db"):
        create_app(settings_for(folder, catalog_file=path))


async def test_items_are_found_by_title_in_any_case_and_by_id(folder: Path) -> None:
    """The most popular first, page by page; an item that was just added too."""
    async with serving(folder) as client:
        await client.put("/items/one-more", json={**NEW, "title": "ÄTNA, i1 again"})
        all_items = (await client.get("/items", params={"limit": 1_000})).json()["items"]
        by_title = (await client.get("/items", params={"q": "I1", "limit": 4})).json()
        rest = (await client.get("/items", params={"q": "I1", "offset": 4})).json()
        folded = (await client.get("/items", params={"q": "ätna"})).json()
        by_id = (await client.get("/items", params={"q": "one-more"})).json()
        nothing = (await client.get("/items", params={"q": ".*"})).json()

    wanted = [item for item in all_items if "i1" in (item["title"] or "")]
    wanted.sort(key=lambda item: -item["popularity"])
    assert len(wanted) > 4
    assert by_title["items"] + rest["items"] == wanted
    assert by_title["total"] == rest["total"] == len(wanted)
    assert [item["item_id"] for item in folded["items"]] == ["one-more"]
    assert folded == by_id
    assert nothing == {"items": [], "total": 0}
