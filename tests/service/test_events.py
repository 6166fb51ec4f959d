"""Events over HTTP: in at once, in order, once; a history is shown and deleted."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import HistoryStoreError, StoreUnreachableError
from service.event_schemas import MAX_EVENTS
from service.history.memory import MemoryHistoryStore
from service.history.store import Append
from tests.service.conftest import Running, Serve
from tests.service.fakes import FakeEngine


async def send(running: Running, *events: dict[str, Any], key: str | None = None) -> httpx.Response:
    """The response to POST /events."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return await running.client.post("/events", json={"events": events}, headers=headers)


def event(item: int | str, user_id: str = "ann", **more: Any) -> dict[str, Any]:
    """An event about item-N, or an item by its whole id."""
    item_id = item if isinstance(item, str) else f"item-{item}"
    return {"user_id": user_id, "item_id": item_id, **more}


async def history_of(running: Running, user_id: str = "ann") -> list[str]:
    """The item ids of GET /users/{user_id}/history, without "item-"."""
    body = (await running.client.get(f"/users/{user_id}/history")).json()
    return [item["item_id"].removeprefix("item-") for item in body["items"]]


class BrokenStore(MemoryHistoryStore):
    """Fails for users whose name begins with x, or altogether."""

    def __init__(self, *, altogether: bool = False) -> None:
        super().__init__(max_items=100)
        self.altogether = altogether

    async def append_many(self, appends: Sequence[Append]) -> list[int | HistoryStoreError]:
        """Only those that do not fail."""
        if self.altogether:
            raise StoreUnreachableError("secret-host:6379 is away")
        good = iter(await super().append_many([a for a in appends if a.user_id[0] != "x"]))
        error = StoreUnreachableError("secret-host:6379 is away")
        return [error if a.user_id[0] == "x" else next(good) for a in appends]


async def test_a_recommendation_sees_the_event_before_it(
    running: Running, engine: FakeEngine
) -> None:
    """As soon as the events are answered, the next request goes by them."""
    response = await send(running, event(3), event(5))
    await running.recommend(user_id="ann")

    assert (response.status_code, response.json()["applied"]) == (200, 2)
    assert engine.batches[-1][0].history == (3, 5)


async def test_events_of_a_request_are_ordered_by_time(running: Running) -> None:
    """Either notation; the same time and no time in the order they came, no time being now."""
    await send(
        running,
        event(1),
        event(2, timestamp="2026-01-01T00:00:02Z"),
        event(3, timestamp="2026-01-01T01:00:01.5+01:00"),
        event(4, timestamp=1_767_225_601_500),
        event(5, timestamp="2026-01-01t00:00:00.999999z"),
        event(6, timestamp=None),
    )

    assert await history_of(running) == ["5", "3", "4", "2", "1", "6"]


async def test_requests_are_appended_in_the_order_they_came(running: Running) -> None:
    """A late event goes to the end: the store keeps no times."""
    await send(running, event(1, timestamp=2_000))
    await send(running, event(2, timestamp=1_000))

    assert await history_of(running) == ["1", "2"]


async def test_an_event_id_is_applied_once(running: Running) -> None:
    """In the same request and in another; an event id is one user's."""
    first = await send(running, event(1, event_id="e1"), event(1, event_id="e1"))
    second = await send(running, event(1, event_id="e1"), event(2, event_id="e2"))
    other = await send(running, event(1, "bob", event_id="e1"))

    counts = [(r.json()["applied"], r.json()["duplicates"]) for r in (first, second, other)]
    assert counts == [(1, 1), (1, 1), (1, 0)]
    assert await history_of(running) == ["1", "2"]


async def test_a_request_under_a_key_is_applied_once(running: Running) -> None:
    """The same item twice is two events, and stays two."""
    body = [event(1), event(1), event(2, "bob")]
    first = await send(running, *body, key="k1")
    again = await send(running, *body, key="k1")
    other = await send(running, *body, key="k2")

    counts = [(r.json()["applied"], r.json()["duplicates"]) for r in (first, again, other)]
    assert counts == [(3, 0), (0, 3), (3, 0)]
    assert await history_of(running) == ["1"] * 4


async def test_a_key_with_another_body_is_refused(running: Running) -> None:
    """Nothing of it is applied."""
    await send(running, event(1), key="k1")
    refused = await send(running, event(2), key="k1")

    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert await history_of(running) == ["1"]


async def test_unknown_items_are_kept_and_reported(running: Running) -> None:
    """Each once, in the order of the request; a later model may know them."""
    response = await send(running, event("new"), event(1), event("newer"), event("new"))

    assert response.json() == {"applied": 4, "duplicates": 0, "unknown_items": ["new", "newer"]}
    assert await history_of(running) == ["new", "1", "newer", "new"]


async def test_what_failed_is_told_and_can_be_sent_again(running: Running) -> None:
    """503 with the places of the events that are missing; the same request mends it."""
    running.app.state.history = store = BrokenStore()
    body = [event(1), event(2, "xavier"), event(3), event(4, "xenia")]
    failed = await send(running, *body, key="k1")
    histories = await store.get_many(["ann", "xavier"])

    problem = failed.json()
    assert (failed.status_code, problem["code"]) == (503, "history_unavailable")
    assert (problem["applied"], problem["not_applied"]) == (2, [1, 3])
    assert "secret-host" not in failed.text
    assert failed.headers["Retry-After"] == "2"
    assert histories == [["item-1", "item-3"], []]


async def test_a_store_that_is_away_applies_nothing(running: Running) -> None:
    """503, and the whole request can be sent again."""
    running.app.state.history = store = BrokenStore(altogether=True)
    failed = await send(running, event(1), event(2), key="k1")
    store.altogether = False
    again = await send(running, event(1), event(2), key="k1")

    assert failed.status_code == 503
    assert (failed.json()["applied"], failed.json()["not_applied"]) == (0, [0, 1])
    assert again.json()["applied"] == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timestamp", "2026-01-01T00:00:00"),
        ("timestamp", "2026-13-01T00:00:00Z"),
        ("timestamp", "1767225601"),
        ("timestamp", 1.5),
        ("timestamp", True),
        ("timestamp", -1),
        ("timestamp", 10**18),
        ("user_id", ""),
        ("item_id", "x" * 257),
        ("event_id", 7),
        ("rating", 5),
    ],
)
async def test_a_wrong_event_is_refused(running: Running, field: str, value: object) -> None:
    """With a pointer to the field, and none of the request is applied."""
    response = await send(running, event(1), {**event(2), field: value})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert response.json()["errors"][0]["pointer"] == f"/events/1/{field}"
    assert await history_of(running) == []


@pytest.mark.parametrize("number", [0, MAX_EVENTS + 1])
async def test_a_request_has_so_many_events(running: Running, number: int) -> None:
    """At least one and at most MAX_EVENTS."""
    assert (await send(running, *[event(1)] * number)).status_code == 422


async def test_the_most_events_fit_one_request(serve: Serve) -> None:
    """The default limit on bodies lets them through."""
    async with serve(max_history_items=MAX_EVENTS) as running:
        body = [event(at % 20, event_id=f"{at:036}", timestamp=at) for at in range(MAX_EVENTS)]
        response = await send(running, *body)

    assert response.json()["applied"] == MAX_EVENTS


@pytest.mark.parametrize("key", ["", "k" * 257])
async def test_a_key_has_a_length(running: Running, key: str) -> None:
    """1 to 256 characters."""
    assert (await send(running, event(1), key=key)).status_code == 422


async def test_a_history_is_shown_with_titles(running: Running) -> None:
    """Oldest first; null for items without a title and for those the model does not know."""
    await send(running, event(0), event(1), event("new"))
    shown = (await running.client.get("/users/ann/history")).json()
    newest = (await running.client.get("/users/ann/history", params={"limit": 1})).json()

    assert shown == {
        "user_id": "ann",
        "num_items": 3,
        "items": [
            {"item_id": "item-0", "title": None},
            {"item_id": "item-1", "title": "Title 1"},
            {"item_id": "new", "title": None},
        ],
    }
    assert (newest["num_items"], newest["items"]) == (3, [{"item_id": "new", "title": None}])


async def test_a_stranger_has_an_empty_history(running: Running) -> None:
    """That is no error."""
    response = await running.client.get("/users/nobody/history")

    assert (response.status_code, response.json()["items"]) == (200, [])


async def test_user_ids_are_any_text(running: Running) -> None:
    """Slashes and all, percent-encoded in the path."""
    await send(running, event(1, "a/b c/history"), event(2, "ä?#%2F"))

    assert await history_of(running, "a%2Fb%20c%2Fhistory") == ["1"]
    assert await history_of(running, "%C3%A4%3F%23%252F") == ["2"]


async def test_a_deleted_history_is_gone(running: Running) -> None:
    """204, again and again, and event ids are forgotten with it."""
    await send(running, event(1, event_id="e1"))
    statuses = [(await running.client.delete("/users/ann/history")).status_code for _ in range(2)]
    again = await send(running, event(1, event_id="e1"))

    assert statuses == [204, 204]
    assert again.json()["applied"] == 1


async def test_an_unreadable_history_is_a_problem(serve: Serve, tmp_path: Path) -> None:
    """503 where it is asked for; recommendations go on, marked as degraded."""
    async with serve(history_url=f"sqlite:///{tmp_path}/store") as running:
        await send(running, event(1), event(2, "bob"))
        with closing(sqlite3.connect(tmp_path / "store", isolation_level=None)) as connection:
            connection.execute("UPDATE histories SET packed = x'24' WHERE user_id = 'ann'")
        shown = await running.client.get("/users/ann/history")
        refused = await send(running, event(3), event(4, "bob"))
        answers = [await running.recommend(user_id=user_id) for user_id in ("ann", "bob")]
        await running.client.delete("/users/ann/history")
        after = await send(running, event(3))

    assert (shown.status_code, shown.json()["code"]) == (503, "history_unavailable")
    assert (refused.status_code, refused.json()["not_applied"]) == (503, [0])
    assert [answer.json()["degraded"] for answer in answers] == [["history"], []]
    assert [answer.json()["source"] for answer in answers] == ["popularity", "model"]
    assert after.json()["applied"] == 1


async def test_a_user_id_in_the_path_is_not_logged(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the method, and whether there is such a path or not."""
    await running.client.get("/users/secret-name/history")
    await running.client.put("/users/secret-name/history")
    await running.client.get("/users/secret-name")

    logged = capsys.readouterr().out
    assert logged.count("/users/...") == 3
    assert "secret-name" not in logged
