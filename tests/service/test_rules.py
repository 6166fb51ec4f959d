"""Filters, boosts, diversity and exploration over HTTP, on a real engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from tests.service.conftest import client_of, settings_for, write_bundle
from tests.service.fakes import PATIENCE_S

ALL = {f"i{item}" for item in range(40)}
HISTORY = ["i1", "i2"]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service of an untrained bundle: brand b, a, b, ...; year 1990 to 1996."""
    write_bundle(tmp_path, "v1")
    is_ready = asyncio.Event()
    app = create_app(settings_for(tmp_path), on_ready=lambda _: is_ready.set())
    async with app.router.lifespan_context(app), client_of(app) as client:
        await asyncio.wait_for(is_ready.wait(), PATIENCE_S)
        yield client


async def recommended(client: httpx.AsyncClient, **body: object) -> list[str]:
    """The ids of the items."""
    response = await client.post("/recommend", json={"limit": 40, **body})
    assert response.status_code == 200, response.text
    return [item["item_id"] for item in response.json()["items"]]


@pytest.mark.parametrize("who", [{"history": HISTORY}, {"user_id": "nobody"}], ids=["warm", "cold"])
async def test_a_filter_leaves_what_matches(
    client: httpx.AsyncClient, who: dict[str, object]
) -> None:
    """A condition, an allow list and a deny list hold together, also for popular items."""
    rules = {"where": "brand = 'a' AND year < 1993", "allow": [f"i{n}" for n in range(30)]}

    found = await recommended(client, filter={**rules, "deny": ["i9"]}, **who)

    matching = {f"i{n}" for n in range(30) if n % 2 and n % 7 < 3} - {"i9"}
    assert set(found) == matching - set(who.get("history", []))  # type: ignore[call-overload]


async def test_unknown_items_of_lists_are_named(client: httpx.AsyncClient) -> None:
    """As those of the history are."""
    body = {"history": HISTORY, "filter": {"allow": ["i5", "new"], "deny": ["old"]}}

    response = await client.post("/recommend", json=body)

    assert [item["item_id"] for item in response.json()["items"]] == ["i5"]
    assert response.json()["unknown_items"] == ["new", "old"]
    assert response.json()["short"] is True


async def test_a_boost_is_told(client: httpx.AsyncClient) -> None:
    """The boosted item comes first; its score is the model's and its boost stands beside."""
    body = {"history": HISTORY, "boosts": [{"by": 10, "items": ["i17"]}]}

    first, second = (await client.post("/recommend", json=body)).json()["items"][:2]

    assert (first["item_id"], first["boost"]) == ("i17", 10.0)
    assert "boost" not in second


async def test_items_are_not_more_alike_than_asked(client: httpx.AsyncClient) -> None:
    """One item for each first code."""
    body = {"history": HISTORY, "limit": 20, "diversity": {"max_items": 1}, "explain": True}

    items = (await client.post("/recommend", json=body)).json()["items"]

    firsts = [item["sid"][0] for item in items]
    assert len(set(firsts)) == len(firsts) == 7


@pytest.mark.parametrize(
    ("rules", "pointer", "words"),
    [
        ({"filter": {"where": "colour = 'red'"}}, "/filter/where", ["colour", "brand"]),
        ({"filter": {"where": "year ="}}, "/filter/where", ["end"]),
        ({"boosts": [{"by": 1, "where": "year = 'x'"}]}, "/boosts/0/where", ["year"]),
    ],
)
async def test_a_wrong_filter_is_pointed_at(
    client: httpx.AsyncClient, rules: dict[str, object], pointer: str, words: list[str]
) -> None:
    """422 names the field, and what is wrong with the expression."""
    response = await client.post("/recommend", json={"history": HISTORY, **rules})

    (error,) = response.json()["errors"]
    assert (response.status_code, error["pointer"]) == (422, pointer)
    assert all(word in error["detail"] for word in words)
