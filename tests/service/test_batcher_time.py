"""Batcher's sense of time: who would be too late is not let in, or not computed; turns are fair."""

import asyncio
import threading

import pytest

from service.batcher import BatchLimits
from service.errors import DeadlineExceededError, OverloadedError
from tests.service.work import IntBatcher, Work, answers, batcher_of, submit


async def learned(work: Work, batcher: IntBatcher, seconds: float) -> None:
    """Let a row take so long that the next ones are expected to."""
    work.gate.clear()
    first = await submit(batcher, 1)
    await work.until_busy()
    threading.Timer(seconds, work.gate.set).start()
    await answers(first)


async def test_who_would_be_too_late_is_told_at_once(work: Work, batcher: IntBatcher) -> None:
    """Not when the deadline passes, and with the time that it should wait; the patient may wait."""
    await learned(work, batcher, 0.2)
    work.gate.clear()
    first = await submit(batcher, 2)
    await work.until_busy()
    patient = await submit(batcher, 3, 4, 5)

    with pytest.raises(OverloadedError) as refused:
        await asyncio.wait_for(batcher.submit(6, timeout_s=0.5), timeout=0.1)

    assert "deadline" in refused.value.detail
    assert refused.value.headers is not None
    assert int(refused.value.headers["Retry-After"]) >= 1
    work.gate.set()
    assert await answers([*first, *patient]) == [20, 30, 40, 50]


async def test_with_nothing_else_to_do_everything_is_tried(work: Work, batcher: IntBatcher) -> None:
    """Else a prediction that is wrong would never be corrected."""
    await learned(work, batcher, 0.2)

    assert await answers(await submit(batcher, 2, timeout_s=0.1)) == [20]


async def test_a_row_that_cannot_be_in_time_is_not_computed(
    work: Work, batcher: IntBatcher
) -> None:
    """It was let in when that was possible; those beside it lose no time by it."""
    await learned(work, batcher, 0.2)
    work.gate.clear()
    first = await submit(batcher, 2)
    await work.until_busy()
    tight, patient = [*await submit(batcher, 3, timeout_s=0.7), *await submit(batcher, 4)]
    threading.Timer(0.6, work.gate.set).start()
    await asyncio.wait([*first, tight, patient])

    assert isinstance(tight.exception(), DeadlineExceededError)
    assert await answers([patient]) == [40]
    assert 3 not in [job for jobs in work.computed for job in jobs]


async def test_a_large_group_delays_one_request_by_a_batch(work: Work) -> None:
    """Of a hundred rows that came first, the next batch has at most half."""
    limits = BatchLimits(max_queue_rows=200, max_batch_rows=4, max_batch_tokens=10_000)
    async with batcher_of(work, limits) as batcher:
        work.gate.clear()
        first = await submit(batcher, 1)
        await work.until_busy()
        group = [
            asyncio.create_task(batcher.submit(number, timeout_s=60, group="g"))
            for number in range(100, 200)
        ]
        await asyncio.sleep(0)
        alone = await submit(batcher, 2, 3)
        work.gate.set()
        await answers([*first, *group, *alone])

    assert sorted(work.computed[1]) == [2, 3, 100, 101]
    assert [len(jobs) for jobs in work.computed[2:]] == [4] * 24 + [2]
