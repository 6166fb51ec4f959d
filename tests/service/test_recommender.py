"""POST /recommend: what a caller asks for, gets, and is told about it."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from service.history import open_store
from service.history.memory import MemoryHistoryStore
from service.recommender import prepare
from service.schemas import RecommendRequest
from tests.service.conftest import Running, Serve
from tests.service.fakes import NUM_ITEMS, FakeEngine


class CountingStore(MemoryHistoryStore):
    """Remembers who was asked for, question by question."""

    def __init__(self) -> None:
        super().__init__(max_items=10)
        self.questions: list[list[str]] = []

    async def get_many(self, user_ids: Sequence[str]) -> list[list[str] | None]:
        """Note the users."""
        self.questions.append(list(user_ids))
        return await super().get_many(user_ids)


async def store_with(folder: Path, histories: Mapping[str, Sequence[str]]) -> str:
    """The URL of a store that holds these histories."""
    url = f"sqlite:///{folder}/histories.sqlite3"
    store = open_store(url, max_items=10)
    await store.import_many(list(histories.items()), replace=True)
    await store.close()
    return url


def item_ids(response: httpx.Response) -> list[str]:
    """The recommended items, best first."""
    assert response.status_code == 200, response.text
    return [item["item_id"] for item in response.json()["items"]]


async def test_a_history_is_answered_with_ranked_items(running: Running) -> None:
    """Every field of the contract, in a plain case."""
    response = await running.recommend(history=["item-1", "item-2"], limit=2)

    body = response.json()
    assert len(body.pop("recommendation_id")) == 32
    assert body == {
        "model": {"name": "fake", "version": "1"},
        "items": [
            {"item_id": "item-3", "rank": 1, "score": -1.0, "title": "Title 3"},
            {"item_id": "item-4", "rank": 2, "score": -2.0, "title": "Title 4"},
        ],
        "source": "model",
        "short": False,
        "degraded": [],
        "unknown_items": [],
        "effort": {"beam_width": 20, "retention_ratio": 0.5},
    }


async def test_a_user_is_answered_by_the_stored_history(
    serve: Serve, engine: FakeEngine, tmp_path: Path
) -> None:
    """The store's items, oldest first, reach the engine; those that are gone are passed over."""
    url = await store_with(tmp_path, {"ann": ["item-5", "gone", "item-7"]})

    async with serve(history_url=url) as running:
        response = await running.recommend(user_id="ann", limit=1)

    assert item_ids(response) == ["item-8"]
    assert list(engine.batches[0][0].history) == [5, 7]
    assert response.json()["unknown_items"] == []


async def test_a_history_in_the_request_overrides_the_stored_one(
    serve: Serve, tmp_path: Path
) -> None:
    """Even an empty one: the caller knows better."""
    url = await store_with(tmp_path, {"ann": ["item-5"]})

    async with serve(history_url=url) as running:
        named = await running.recommend(user_id="ann", history=["item-9"])
        empty = await running.recommend(user_id="ann", history=[])

    assert item_ids(named)[0] == "item-10"
    assert empty.json()["source"] == "popularity"


async def test_unknown_items_are_skipped_and_listed(running: Running) -> None:
    """Each once, in the order of the history; the others count."""
    response = await running.recommend(history=["x", "item-1", "y", "x"], limit=1)

    assert item_ids(response) == ["item-2"]
    assert response.json()["unknown_items"] == ["x", "y"]


@pytest.mark.parametrize("who", [{"user_id": "nobody"}, {"history": ["x"]}, {"history": []}])
async def test_who_has_no_known_item_gets_what_is_popular(
    running: Running, engine: FakeEngine, who: dict[str, object]
) -> None:
    """A cold start costs no computation and claims no score."""
    body = (await running.recommend(**who, limit=2, explain=True)).json()

    assert body["source"] == "popularity"
    assert body["items"] == [
        {"item_id": "item-0", "rank": 1, "score": None, "title": None},
        {"item_id": "item-1", "rank": 2, "score": None, "title": "Title 1"},
    ]
    assert body["degraded"] == []
    assert "explanation" not in body
    assert engine.batches == []


async def test_seen_items_come_back_only_on_demand(running: Running) -> None:
    """exclude_seen is on unless the caller turns it off."""
    history = ["item-1", "item-2", "item-0"]

    without = await running.recommend(history=history, limit=2)
    with_seen = await running.recommend(history=history, limit=2, exclude_seen=False)

    assert item_ids(without) == ["item-3", "item-4"]
    assert item_ids(with_seen) == ["item-1", "item-2"]


async def test_too_few_items_are_marked_short(running: Running) -> None:
    """What exists is answered, and the caller is told."""
    response = await running.recommend(history=["item-1"], limit=100)

    assert len(item_ids(response)) == NUM_ITEMS - 1
    assert response.json()["short"] is True


async def test_explain_shows_ids_scores_and_what_was_kept(running: Running) -> None:
    """Positions of the engine become item ids, also behind unknown ones."""
    response = await running.recommend(history=["x", "item-1", "item-2"], limit=1, explain=True)

    body = response.json()
    assert body["items"][0]["sid"] == [3, 0, 0]
    assert body["items"][0]["level_log_probs"] == [-1.0, 0.0, 0.0]
    assert body["explanation"] == {
        "tokens_in": 6,
        "tokens_kept": 2,
        "kept_history": [{"item_id": "item-2", "num_tokens": 2}],
    }


async def test_what_is_asked_reaches_the_engine(running: Running, engine: FakeEngine) -> None:
    """Nothing of a request is dropped on the way."""
    options = {
        "limit": 7,
        "beam_width": 9,
        "retention_ratio": 0.5,
        "exclude_seen": False,
        "explain": True,
    }
    await running.recommend(history=["item-1"], **options)

    query = engine.batches[0][0]
    assert {name: getattr(query, name) for name in options} == options


async def test_the_default_beam_width_gives_way_to_the_limit(
    serve: Serve, engine: FakeEngine
) -> None:
    """A setting fills in for requests that name none."""
    async with serve(default_beam_width=5) as running:
        await running.recommend(history=["item-1"], limit=2)
        await running.recommend(history=["item-1"], limit=8)

    assert [batch[0].beam_width for batch in engine.batches] == [5, 8]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("retention_ratio", 0.7, "0.5, 1"), ("beam_width", 201, "at most 200")],
)
async def test_what_the_bundle_or_the_settings_forbid_is_refused(
    running: Running, name: str, value: float, allowed: str
) -> None:
    """422 names the field and the values that are allowed."""
    response = await running.recommend(history=["item-1"], **{name: value})

    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_request")
    assert problem["errors"][0]["pointer"] == f"/{name}"
    assert allowed in problem["errors"][0]["detail"]


async def test_a_store_that_fails_degrades_the_answer(serve: Serve, tmp_path: Path) -> None:
    """Users become cold, inline histories are answered as ever; nobody gets an error."""
    url = await store_with(tmp_path, {"ann": ["item-5"]})
    async with serve(history_url=url) as running:
        with closing(sqlite3.connect(tmp_path / "histories.sqlite3")) as connection:
            connection.execute("DROP TABLE histories")
        stored = (await running.recommend(user_id="ann", limit=1)).json()
        inline = (await running.recommend(user_id="ann", history=["item-1"], limit=1)).json()

    assert (stored["source"], stored["degraded"]) == ("popularity", ["history"])
    assert (inline["source"], inline["degraded"]) == ("model", [])


async def test_concurrent_users_share_a_batch_and_get_their_own_answers(
    serve: Serve, engine: FakeEngine, tmp_path: Path
) -> None:
    """Stored, inline and cold requests together: no mix-up."""
    stored = {f"user-{index}": [f"item-{index}"] for index in range(8)}
    who: list[dict[str, object]] = [{"user_id": user_id} for user_id in stored]
    who += [{"history": ["item-12"]}, {"user_id": "nobody"}]
    engine.gate.clear()

    async with serve(history_url=await store_with(tmp_path, stored)) as running:
        first = asyncio.create_task(running.recommend(history=["item-0"]))
        await engine.until_busy()
        others = [asyncio.create_task(running.recommend(**body, limit=1)) for body in who]
        await running.until_waiting(len(who))
        engine.gate.set()
        responses = await asyncio.gather(*others)
        await first

    expected = [f"item-{index + 1}" for index in range(8)]
    assert [item_ids(response)[0] for response in responses] == [*expected, "item-13", "item-0"]
    assert engine.batch_sizes == [1, 9]


async def test_a_batch_asks_the_store_once(engine: FakeEngine) -> None:
    """One round trip for all users of a batch, none when nobody needs it."""
    store = CountingStore()
    ann, bob = RecommendRequest(user_id="ann"), RecommendRequest(user_id="bob")
    inline = RecommendRequest(user_id="cid", history=["item-1"])

    await prepare(store, engine.catalog, None, [ann, inline, bob])
    await prepare(store, engine.catalog, None, [inline])

    assert store.questions == [["ann", "bob"]]


async def test_a_full_queue_answers_429(serve: Serve, engine: FakeEngine) -> None:
    """At once, with a time to come back; the admitted are still served."""
    engine.gate.clear()
    async with serve(max_queue_rows=1) as running:
        admitted = [asyncio.create_task(running.recommend(history=["item-1"]))]
        await engine.until_busy()
        admitted += [asyncio.create_task(running.recommend(history=["item-2"]))]
        await running.until_waiting(1)

        refused = await running.recommend(history=["item-3"])

        engine.gate.set()
        responses = await asyncio.gather(*admitted)

    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert refused.headers["Retry-After"] == "1"
    assert [response.status_code for response in responses] == [200, 200]


@pytest.mark.parametrize("changes", [{"default_deadline_ms": 1}, {}])
async def test_a_deadline_in_the_queue_answers_504(
    serve: Serve, engine: FakeEngine, changes: dict[str, object]
) -> None:
    """The request's own or the default one; the model never sees the request."""
    engine.gate.clear()
    async with serve(**changes) as running:
        first = asyncio.create_task(running.recommend(history=["item-1"], deadline_ms=60_000))
        await engine.until_busy()

        own = {} if changes else {"deadline_ms": 1}
        late = await running.recommend(history=["item-2"], **own)

        engine.gate.set()
        assert (await first).status_code == 200

    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    assert engine.batch_sizes == [1]


async def test_a_model_that_fails_answers_500_and_goes_on(
    running: Running, engine: FakeEngine
) -> None:
    """The caller learns nothing about the cause, and the next one is served."""
    engine.failure = RuntimeError("secret")
    failed = await running.recommend(history=["item-1"])
    engine.failure = None
    served = await running.recommend(history=["item-1"])

    assert (failed.status_code, failed.json()["code"]) == (500, "internal_error")
    assert "secret" not in failed.text
    assert served.status_code == 200
