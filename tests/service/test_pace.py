"""Pace: refusals leave in order, not too many at a time, and none too late."""

import asyncio
import time

from service.pace import MAX_WAIT_S, PER_S, Pace

SLACK_S = 0.2


async def waits(pace: Pace, count: int, timeout_s: float = 60) -> list[float]:
    """For how long so many who come together wait."""

    async def wait() -> float:
        began_s = time.perf_counter()
        await pace.wait(timeout_s)
        return time.perf_counter() - began_s

    return await asyncio.gather(*(wait() for _ in range(count)))


async def test_one_alone_does_not_wait() -> None:
    """Nor does the next one, later."""
    pace = Pace()
    assert max(await waits(pace, 1)) < SLACK_S / 4
    await asyncio.sleep(2 / PER_S)
    assert max(await waits(pace, 1)) < SLACK_S / 4


async def test_those_who_come_together_go_one_after_the_other() -> None:
    """Those who came first go first, but for a timer's milliseconds."""
    found = await waits(Pace(), 100)

    assert max(found[:40]) < min(found[60:])
    assert 98 / PER_S <= found[-1] < 99 / PER_S + SLACK_S


async def test_nobody_waits_too_long() -> None:
    """However many there are, and however little time one has."""
    assert 0.9 * MAX_WAIT_S <= max(await waits(Pace(), 2_000)) < MAX_WAIT_S + SLACK_S
    assert max(await waits(Pace(), 2_000, timeout_s=0.1)) < 0.05 + SLACK_S
