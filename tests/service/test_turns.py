"""Turns: as many batches at once as there are threads, and none while somebody is alone."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.turns import Turns

PATIENCE_S = 20.0


class Bench:
    """Work that waits for its gate, and knows how much of it runs at once."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()
        self._begun = threading.Semaphore(0)

    def work(self, result: str) -> str:
        """The result, as soon as the gate is open."""
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self._begun.release()
        assert self.gate.wait(PATIENCE_S)
        with self._lock:
            self.running -= 1
        return result

    async def until_begun(self) -> None:
        """Wait until one more has begun."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=PATIENCE_S)


@pytest.fixture
def bench() -> Bench:
    """What is computed."""
    return Bench()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """More threads than turns."""
    with ThreadPoolExecutor(8) as executor:
        yield executor


async def compute(turns: Turns, bench: Bench, result: str) -> str:
    """What a batcher does with a turn."""
    turn = await turns.begin()
    try:
        return await turns.compute(turn, bench.work, result)
    finally:
        turns.end(turn)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
async def test_so_many_batches_run_at_once(
    threads: ThreadPoolExecutor, bench: Bench, num_threads: int
) -> None:
    """Never more, and all get done."""
    turns = Turns(threads, num_threads)
    tasks = [asyncio.create_task(compute(turns, bench, str(n))) for n in range(6)]
    for _ in range(num_threads):
        await bench.until_begun()
    assert not turns.is_idle()
    bench.gate.set()

    assert await asyncio.gather(*tasks) == list("012345")
    assert bench.most == num_threads
    assert turns.is_idle()


async def test_who_is_alone_is_alone(threads: ThreadPoolExecutor, bench: Bench) -> None:
    """It waits for what runs, and what comes meanwhile waits for it."""
    turns, happened = Turns(threads, 2), list[str]()

    def change(name: str) -> None:
        assert bench.running == 0
        happened.append(name)

    before = [asyncio.create_task(compute(turns, bench, "before")) for _ in range(2)]
    for _ in before:
        await bench.until_begun()
    changes = [asyncio.create_task(turns.alone(change, name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    after = [asyncio.create_task(compute(turns, bench, "after")) for _ in range(4)]
    await asyncio.sleep(0)
    assert happened == []
    bench.gate.set()
    await asyncio.gather(*before, *changes, *after)

    assert happened == ["first", "second"]
    assert turns.is_idle()


async def test_who_fails_or_leaves_gives_the_thread_back(
    threads: ThreadPoolExecutor, bench: Bench
) -> None:
    """When it is free, not before: a batch that nobody waits for still runs."""
    turns = Turns(threads)

    def fail(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await turns.alone(fail, "")
    gone = asyncio.create_task(compute(turns, bench, "gone"))
    await bench.until_begun()
    gone.cancel()
    await asyncio.wait([gone])
    assert not turns.is_idle()
    waiting = asyncio.create_task(turns.begin())
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.gate.set()

    turns.end(await asyncio.wait_for(waiting, PATIENCE_S))
    assert turns.is_idle()


class Line:
    """A queue with so much in it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def backlog_s(self) -> float:
        """As it was made."""
        return self.seconds


async def test_a_wait_is_what_runs_and_what_comes_before(threads: ThreadPoolExecutor) -> None:
    """Another line comes in between for as long as one's own needs, all threads at once."""
    mine, long, short = Line(0), Line(100), Line(1)
    for num_threads in (1, 2):
        turns = Turns(threads, num_threads)
        with turns.line(mine), turns.line(long), turns.line(short):
            free_s = turns.wait_s(mine, ahead_s=4.0, own_s=2.0)
            turn = await turns.begin()
            turn.predicted_s = 30.0
            busy_s = turns.wait_s(mine, ahead_s=4.0, own_s=2.0)

        assert free_s == (4 + 6 + 1) / num_threads + 2
        assert busy_s - free_s == pytest.approx(30 / num_threads, abs=1.0)
