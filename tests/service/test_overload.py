"""More than can be done: who is let in is answered in time, and the small before the large."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from model.engine import Engine
from service.batcher import Batcher, BatchLimits
from service.cost import CostModel
from service.dial import Dial
from service.errors import ServiceError
from service.forecast import Average
from service.history.memory import MemoryHistoryStore
from service.metrics import Metrics
from service.prediction import Prediction
from service.recommender import Job, Result, compute, num_tokens, prepare
from service.schemas import RecommendRequest
from service.turns import Turns
from tests.factories import random_engine, tiny_config
from tests.service.work import IntBatcher

MAX_ROWS = 16
LIMITS = BatchLimits(max_queue_rows=5_000, max_batch_rows=MAX_ROWS, max_batch_tokens=16_384)
OVERLOAD = 5
ROW_S = 0.004


async def as_it_is(requests: Sequence[int]) -> list[int]:
    """Nothing to prepare."""
    return list(requests)


def machine(jobs: Sequence[int]) -> list[int]:
    """A machine that takes a known time for a row, whatever else this computer does."""
    time.sleep(ROW_S * len(jobs))
    return list(jobs)


async def test_at_five_times_what_it_can_do_who_is_let_in_is_answered() -> None:
    """Most are refused at once; the others are in time, and the machine stays busy."""
    batcher: IntBatcher = Batcher(
        prepare=as_it_is,
        compute=machine,
        num_tokens=int,
        limits=LIMITS,
        turns=Turns(ThreadPoolExecutor(1)),
        forecast=Average(),
    )
    refused_after_s: list[float] = []

    async def ask(timeout_s: float) -> str:
        began_s = time.perf_counter()
        try:
            await batcher.submit(1, timeout_s=timeout_s)
        except ServiceError as error:
            refused_after_s.append(time.perf_counter() - began_s)
            return error.code
        return "ok"

    async with batcher:
        await ask(60)
        began_s = time.perf_counter()
        tasks: list[asyncio.Task[str]] = []
        while (now_s := time.perf_counter() - began_s) < 1.5:
            due = int(now_s / ROW_S * OVERLOAD) - len(tasks)
            tasks += [asyncio.create_task(ask(timeout_s=0.5)) for _ in range(due)]
            await asyncio.sleep(ROW_S)
        ended = Counter(await asyncio.gather(*tasks))
        lasted_s = time.perf_counter() - began_s

    assert ended["ok"] > 0.5 * lasted_s / ROW_S
    assert ended["overloaded"] > ended["ok"]
    assert ended["deadline_exceeded"] <= 0.3 * ended["ok"]
    assert sorted(refused_after_s)[len(refused_after_s) // 2] < 0.01


@dataclass(frozen=True)
class Real:
    """A batcher with its engine, and how long a whole batch takes on this machine."""

    batcher: Batcher[RecommendRequest, Job, Result]
    batch_s: float

    async def ask(self, number: int, group: Hashable | None = None) -> None:
        """Have one request answered."""
        items = [f"i{(number + place) % 40}" for place in range(12)]
        request = RecommendRequest(history=items)
        await self.batcher.submit(request, timeout_s=600, group=group)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """One that takes some milliseconds."""
    return random_engine(tiny_config(d_model=64, num_heads=4, d_kv=16, d_ff=128))


@pytest.fixture
async def real(engine: Engine) -> AsyncIterator[Real]:
    """Warm, and it knows what things cost."""
    costs = CostModel.fit(engine.rehearse(MAX_ROWS, LIMITS.max_batch_tokens))
    batcher = Batcher(
        prepare=partial(prepare, MemoryHistoryStore(200), engine.catalog, None),
        compute=partial(compute, engine),
        num_tokens=partial(num_tokens, engine),
        limits=LIMITS,
        turns=Turns(ThreadPoolExecutor(1)),
        forecast=Prediction(
            engine,
            costs,
            Dial.of(engine, costs, 0.0, MAX_ROWS),
            None,
            MAX_ROWS,
            Metrics().batch_predicted,
        ),
    )
    async with batcher:
        began_s = time.perf_counter()
        await asyncio.gather(*(Real(batcher, 0.0).ask(number) for number in range(MAX_ROWS)))
        yield Real(batcher, time.perf_counter() - began_s)


async def test_a_large_request_hardly_delays_a_small_one(real: Real) -> None:
    """It waits for two or three batches, not for the twenty that came before it."""
    group = object()
    large = [asyncio.create_task(real.ask(number, group)) for number in range(20 * MAX_ROWS)]
    await asyncio.sleep(real.batch_s)
    waited_s = []
    for number in range(3):
        began_s = time.perf_counter()
        await real.ask(number)
        waited_s.append(time.perf_counter() - began_s)
    unfinished = sum(not task.done() for task in large)
    await asyncio.gather(*large)

    assert sorted(waited_s)[1] < 6 * real.batch_s
    assert unfinished > 0
