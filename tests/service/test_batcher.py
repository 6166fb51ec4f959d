"""Batcher: what waits together shares a batch; limits, deadlines and leavers are kept to."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from service.batcher import BatchLimits
from service.errors import (
    DeadlineExceededError,
    ModelFailedError,
    NotReadyError,
    OverloadedError,
)
from service.hand_out import AT_ONCE
from service.turns import Turns
from tests.service.work import IntBatcher, Work, answers, batcher_of, submit


async def test_requests_that_wait_together_share_one_batch(work: Work, batcher: IntBatcher) -> None:
    """Four concurrent requests cost one batch, and each gets its own answer."""
    found = await answers(await submit(batcher, 1, 2, 3, 4))

    assert found == [10, 20, 30, 40]
    assert work.prepared == [[1, 2, 3, 4]]
    assert work.computed == [[1, 2, 3, 4]]


async def test_what_arrives_during_a_batch_forms_the_next(work: Work, batcher: IntBatcher) -> None:
    """Nothing waits for a timer: the thread is free, the queue is the batch."""
    work.gate.clear()
    first = await submit(batcher, 1)
    await work.until_busy()
    later = [*await submit(batcher, 2), *await submit(batcher, 3)]
    work.gate.set()

    assert await answers([*first, *later]) == [10, 20, 30]
    assert work.computed == [[1], [2, 3]]


async def test_a_batch_has_at_most_max_batch_rows(work: Work, batcher: IntBatcher) -> None:
    """The rest waits, in order."""
    found = await answers(await submit(batcher, 1, 2, 3, 4, 5, 6))

    assert found == [10, 20, 30, 40, 50, 60]
    assert work.computed == [[1, 2, 3, 4], [5, 6]]


async def test_a_batch_has_at_most_max_batch_tokens_with_padding(
    work: Work, batcher: IntBatcher
) -> None:
    """Rows count as long as the longest; what does not fit is not prepared twice."""
    found = await answers(await submit(batcher, 30, 40, 10, 20))

    assert found == [300, 400, 100, 200]
    assert work.prepared == [[30, 40, 10, 20]]
    assert work.computed == [[30, 40], [10, 20]]


async def test_a_request_over_the_token_budget_is_a_batch_of_its_own(
    work: Work, batcher: IntBatcher
) -> None:
    """It neither hangs nor takes others along."""
    found = await answers(await submit(batcher, 1, 500, 2))

    assert found == [10, 5000, 20]
    assert work.computed == [[1], [500], [2]]


async def test_a_full_queue_refuses(work: Work, batcher: IntBatcher) -> None:
    """Rows that wait count, those being computed do not; the caller learns when to come back."""
    work.gate.clear()
    first = await submit(batcher, 100)
    await work.until_busy()
    waiting = await submit(batcher, 1, 2, 3, 4, 5, 6, 7, 8)

    with pytest.raises(OverloadedError) as refused:
        await batcher.submit(9, timeout_s=60)

    assert refused.value.headers == {"Retry-After": "1"}

    work.gate.set()
    assert len(await answers([*first, *waiting])) == 9


async def test_a_deadline_in_the_queue_saves_the_computation(
    work: Work, batcher: IntBatcher
) -> None:
    """The caller learns at once, though the model is busy, and the row is never computed."""
    work.gate.clear()
    first = await submit(batcher, 1)
    await work.until_busy()
    (late,) = await submit(batcher, 2, timeout_s=0.001)

    with pytest.raises(DeadlineExceededError):
        await late

    work.gate.set()
    later = await submit(batcher, 3)
    assert await answers([*first, *later]) == [10, 30]
    assert work.computed == [[1], [3]]


async def test_a_deadline_during_the_computation_is_kept_too(
    work: Work, batcher: IntBatcher
) -> None:
    """The answer comes later to nobody; its batch mates get theirs."""
    work.gate.clear()
    patient, hasty = [*await submit(batcher, 1), *await submit(batcher, 2, timeout_s=0.001)]

    with pytest.raises(DeadlineExceededError):
        await hasty

    work.gate.set()
    assert await answers([patient]) == [10]


async def test_a_deadline_that_has_passed_computes_nothing(work: Work, batcher: IntBatcher) -> None:
    """A request may have spent its time before it came here."""
    work.gate.clear()
    first = await submit(batcher, 1)
    await work.until_busy()

    with pytest.raises(DeadlineExceededError):
        await batcher.submit(2, timeout_s=-1)

    work.gate.set()
    assert await answers(first) == [10]


async def test_a_carried_row_may_die_while_it_waits(work: Work, batcher: IntBatcher) -> None:
    """Prepared, over the budget of its batch, then out of time: dropped all the same."""
    work.gate.clear()
    first = asyncio.create_task(batcher.submit(99, timeout_s=60))
    carried = asyncio.create_task(batcher.submit(98, timeout_s=0.05))
    await work.until_busy()

    with pytest.raises(DeadlineExceededError):
        await carried

    work.gate.set()
    assert await answers([first]) == [990]
    assert await answers(await submit(batcher, 1)) == [10]
    assert work.prepared == [[99, 98], [1]]
    assert work.computed == [[99], [1]]


async def test_who_leaves_makes_room(work: Work, batcher: IntBatcher) -> None:
    """A cancelled caller's row leaves the queue at once and is never computed."""
    work.gate.clear()
    first = await submit(batcher, 100)
    await work.until_busy()
    waiting = await submit(batcher, 1, 2, 3, 4, 5, 6, 7, 8)
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    last = await submit(batcher, 9)
    work.gate.set()

    assert len(await answers([*first, *waiting[1:], *last])) == 9
    assert work.computed == [[100], [2, 3, 4, 5], [6, 7, 8, 9]]


async def test_a_failing_batch_fails_its_rows_only(work: Work, batcher: IntBatcher) -> None:
    """Whatever the model raises, the next batch is computed as if nothing had been."""
    work.failing = {1}
    failed = await submit(batcher, 1, 2)
    await asyncio.wait(failed)

    assert [type(task.exception()) for task in failed] == [ModelFailedError, ModelFailedError]
    assert await answers(await submit(batcher, 3)) == [30]


async def test_a_failing_preparation_fails_its_rows_only(work: Work, batcher: IntBatcher) -> None:
    """The same goes for the step before."""
    work.failing = {-1}
    failed = await submit(batcher, 1, 2)
    await asyncio.wait(failed)

    assert [type(task.exception()) for task in failed] == [ModelFailedError, ModelFailedError]
    assert work.computed == []
    assert await answers(await submit(batcher, 3)) == [30]


async def test_stages_add_up(work: Work, batcher: IntBatcher) -> None:
    """Waiting counts as queue time, computing as model time; the batch's size is told."""
    work.gate.clear()
    first = await submit(batcher, 1)
    await work.until_busy()
    later = await submit(batcher, 2, 3)
    assert batcher.busy_s() > 0
    work.gate.set()
    await asyncio.gather(*first)
    outcome = (await asyncio.gather(*later))[0]

    assert outcome.batch_rows == 2
    assert min(outcome.queue_ms, outcome.history_ms, outcome.model_ms) >= 0
    assert batcher.busy_s() == 0


async def test_leaving_refuses_what_is_left(work: Work) -> None:
    """Rows that wait and rows being computed fail as draining: nobody waits for ever."""
    work.gate.clear()
    async with batcher_of(work) as batcher:
        computing = await submit(batcher, 1)
        await work.until_busy()
        waiting = await submit(batcher, 2)
    work.gate.set()
    await asyncio.wait([*computing, *waiting])

    assert [type(task.exception()) for task in (*computing, *waiting)] == [NotReadyError] * 2


async def test_batches_of_one_queue_run_on_several_threads(work: Work) -> None:
    """Each row once, and each gets its own answer."""
    turns = Turns(ThreadPoolExecutor(2), 2)
    async with batcher_of(work, turns=turns) as batcher:
        work.gate.clear()
        first = await submit(batcher, 1, 2)
        await work.until_busy()
        second = await submit(batcher, 3, 4)
        await work.until_busy()
        third = await submit(batcher, 5)
        work.gate.set()

        assert await answers([*first, *second, *third]) == [10, 20, 30, 40, 50]
    assert work.computed == [[1, 2], [3, 4], [5]]


async def test_answers_of_a_large_batch_come_some_at_a_time(work: Work) -> None:
    """The event loop sees to others in between, and does not write all responses at once."""
    limits = BatchLimits(max_queue_rows=50, max_batch_rows=30, max_batch_tokens=10_000)
    async with batcher_of(work, limits) as batcher:
        work.gate.clear()
        tasks = await submit(batcher, *range(1, 31))
        await work.until_busy()
        work.gate.set()
        done = [0]
        while done[-1] < 30:
            await asyncio.sleep(0)
            done.append(sum(task.done() for task in tasks))

    steps = [after - before for before, after in pairwise(done)]
    assert max(steps) <= 2 * AT_ONCE
    assert await answers(tasks) == [10 * number for number in range(1, 31)]


async def test_callers_who_come_back_at_once_share_batches(work: Work) -> None:
    """Half of them do not wait for the other half's batch for ever."""
    limits = BatchLimits(max_queue_rows=50, max_batch_rows=30, max_batch_tokens=10_000)

    async def call(batcher: IntBatcher, number: int) -> None:
        for _ in range(6):
            await batcher.submit(number, timeout_s=60)

    async with batcher_of(work, limits) as batcher, asyncio.TaskGroup() as callers:
        work.gate.clear()
        for number in range(1, 9):
            callers.create_task(call(batcher, number))
        await work.until_busy()
        for number in range(9, 17):
            callers.create_task(call(batcher, number))
        await asyncio.sleep(0)
        work.gate.set()

    assert [len(batch) for batch in work.computed] == [8, 16, 16, 16, 16, 16, 8]
