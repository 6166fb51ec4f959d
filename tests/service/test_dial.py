"""Dial: less effort when time is short; only where the request leaves it open, and said so."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from model.engine import Engine, Query, Shape
from model.rehearsal import Timing, scenes
from service.app import create_app
from service.cost import CostModel
from service.dial import Dial, Notch
from service.recommender import Job
from service.schemas import RecommendRequest
from service.settings import Settings
from tests.factories import random_engine
from tests.service.conftest import client_of, settings_for
from tests.service.fakes import PATIENCE_S

HISTORY = tuple(range(12))
"""As the tiny engine reads it: its longest; by default at a ratio of 0.5, by 20 beams."""


def timings(token_s: float = 1e-3, beam_s: float = 1e-3) -> list[Timing]:
    """As if a machine took so long for what is kept of each item, and for each beam."""
    standard = Shape(12, 20, 0.5)
    return [
        Timing(
            shape,
            rows,
            0.001
            + rows * shape.num_items * shape.retention_ratio * token_s
            + rows * shape.beam_width * beam_s,
        )
        for shape, rows in scenes(standard, (1, 4, 12), (0.25, 0.5, 1.0), 8, 1_000)
    ]


@pytest.fixture(scope="module")
def engine() -> Engine:
    """One whose bundle has validated the ratios 0.25, 0.5 and 1."""
    return random_engine()


def dial_of(engine: Engine, costs: CostModel, wait_s: float = 0.5, rows: int = 8) -> Dial:
    """Its dial."""
    return Dial.of(engine, costs, wait_s, rows)


def job(**fields: object) -> Job:
    """A job of a request with these fields."""
    request = RecommendRequest.model_validate({"user_id": "u", **fields})
    query = Query(
        HISTORY,
        limit=request.limit,
        beam_width=request.beam_width,
        retention_ratio=request.retention_ratio,
    )
    return Job(request, query, [], history_failed=False)


def test_efforts_are_validated_ratios_then_narrower_beams(engine: Engine) -> None:
    """Each cheaper than the one before."""
    dial = dial_of(engine, CostModel.fit(timings()))

    assert dial.notches == (Notch(0.5), Notch(0.25), Notch(0.25, 0.7), Notch(0.25, 0.5))


def test_what_saves_time_in_a_full_batch_is_spared(engine: Engine) -> None:
    """Though a batch of one, most of which is what every batch costs, would hardly notice."""
    costs = CostModel((1.0, 0.0, 0.0, 1e-3, 1e-3, 0.0))

    assert dial_of(engine, costs, rows=1).notches == (Notch(0.5),)
    assert len(dial_of(engine, costs, rows=1_000).notches) > 1


def test_what_saves_nothing_is_not_spared(engine: Engine) -> None:
    """On a machine where tokens cost nothing, none is dropped, and the same goes for beams."""
    free_tokens = dial_of(engine, CostModel.fit(timings(token_s=0)))
    free_beams = dial_of(engine, CostModel.fit(timings(beam_s=0)))

    assert [notch.beam_share for notch in free_tokens.notches] == [1.0, 0.7, 0.5]
    assert free_beams.notches == (Notch(0.5), Notch(0.25))


def test_the_longer_the_queue_the_less_effort(engine: Engine) -> None:
    """A step for each half second; a deadline may ask for less still; 0 s switches it off."""
    dial = dial_of(engine, CostModel.fit(timings()))

    assert [list(dial.efforts(seconds)) for seconds in (0, 0.6, 1.2, 9)] == [
        [0, 1, 2, 3],
        [1, 2, 3],
        [2, 3],
        [3],
    ]
    assert list(dial_of(engine, CostModel.fit(timings()), wait_s=0.0).efforts(9.0)) == [0]


@pytest.mark.parametrize(
    ("fields", "shape", "saved"),
    [
        ({}, (10, 0.25), ("beam_width", "retention_ratio")),
        ({"limit": 15}, (15, 0.25), ("beam_width", "retention_ratio")),
        ({"limit": 30}, (30, 0.25), ("retention_ratio",)),
        ({"beam_width": 40}, (40, 0.25), ("retention_ratio",)),
        ({"retention_ratio": 1.0}, (10, 1.0), ("beam_width",)),
        ({"retention_ratio": 0.25}, (10, 0.25), ("beam_width",)),
        ({"beam_width": 20, "retention_ratio": 0.5}, (20, 0.5), ()),
    ],
)
def test_only_what_the_request_left_open_is_spared(
    engine: Engine, fields: dict[str, object], shape: tuple[int, float], saved: tuple[str, ...]
) -> None:
    """And there are never fewer beams than items asked for."""
    dial = dial_of(engine, CostModel.fit(timings()))

    (adapted,) = dial.adapted([job(**fields)], 3)

    found = engine.shape(adapted.query)
    assert (found.beam_width, found.retention_ratio) == shape
    assert adapted.saved == saved


def test_full_effort_changes_nothing(engine: Engine) -> None:
    """Nor does any for a user without a history."""
    dial = dial_of(engine, CostModel.fit(timings()))
    jobs, cold = [job(), job(limit=3)], Job(job().request, Query(()), [], history_failed=False)

    assert dial.adapted(jobs, 0) == jobs
    assert dial.adapted([cold], 3) == [cold]


class SlowEngine(Engine):
    """An engine that says of itself that it is slow, so that there is never time."""

    def rehearse(self, max_rows: int, max_tokens: int) -> list[Timing]:  # noqa: ARG002  # Engine's
        """What a slow machine would have measured."""
        return timings(token_s=0.01, beam_s=0.01)


def load_slow(_: Settings, folder: Path) -> Engine:
    """Such an engine of a bundle."""
    return SlowEngine.load(folder)


@pytest.fixture
async def slow(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that expects 261 ms of a request, and 131 ms with the least effort."""
    is_ready = asyncio.Event()
    app = create_app(settings_for(folder), load_slow, on_ready=lambda _: is_ready.set())
    async with app.router.lifespan_context(app), client_of(app) as client:
        await asyncio.wait_for(is_ready.wait(), PATIENCE_S)
        yield client


async def test_a_tight_deadline_is_met_with_less_effort_and_told(slow: httpx.AsyncClient) -> None:
    """Who has time, or says with what to search, gets all of it."""
    body = {"history": [f"i{item}" for item in HISTORY]}
    tight = {**body, "deadline_ms": 170}

    hasty = (await slow.post("/recommend", json=tight)).json()
    patient = (await slow.post("/recommend", json=body)).json()
    fixed = await slow.post("/recommend", json={**tight, "beam_width": 20, "retention_ratio": 0.5})
    cold = await slow.post("/recommend", json={"user_id": "nobody", "deadline_ms": 170})

    assert hasty["effort"] == {"beam_width": 10, "retention_ratio": 0.25}
    assert (hasty["degraded"], len(hasty["items"])) == (["beam_width", "retention_ratio"], 10)
    for answer in (patient, fixed.json()):
        assert answer["effort"] == {"beam_width": 20, "retention_ratio": 0.5}
        assert answer["degraded"] == []
    assert "effort" not in cold.json()


async def test_a_long_queue_is_worked_off_with_less_effort(slow: httpx.AsyncClient) -> None:
    """Nobody is refused for it; with the end of the queue all effort is back."""
    body = {"history": [f"i{item}" for item in HISTORY], "deadline_ms": 60_000}

    response = await slow.post("/recommend/batch", json={"requests": [body] * 64})

    answers = [result["response"] for result in response.json()["results"]]
    assert [answer["effort"]["beam_width"] for answer in answers] == [10] * 32 + [20] * 32
    assert answers[0]["degraded"] == ["beam_width", "retention_ratio"]
    assert answers[-1]["degraded"] == []
