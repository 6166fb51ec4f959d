"""Turns: the model's threads, and whose turn it is to compute on one.

A turn begins before a batch is formed and ends when its thread is free again, so that nobody forms
a batch that then stands in a line. Whoever changes what batches read takes every turn at once.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

ResultT = TypeVar("ResultT")
ArgumentT = TypeVar("ArgumentT")


class Line(Protocol):
    """Those who wait for turns together: a Batcher."""

    def backlog_s(self) -> float:
        """What waits in it, in predicted seconds."""
        ...


@dataclass(eq=False, slots=True)
class Turn:
    """One batch's use of a thread, from when it is formed to its answers.

    Args:
        predicted_s: how long it will take in all, as soon as somebody knows.
    """

    began_s: float = field(default_factory=time.perf_counter)
    predicted_s: float = 0.0

    def so_far_s(self) -> float:
        """For how long it has lasted."""
        return time.perf_counter() - self.began_s


class Turns:
    """As many at a time as the executor has threads.

    Args:
        executor: of threads that torch may compute on.
        num_threads: of them.
    """

    def __init__(self, executor: Executor, num_threads: int = 1) -> None:
        self.num_threads = num_threads
        self._executor = executor
        self._free = asyncio.Semaphore(num_threads)
        self._taking_all = asyncio.Lock()
        self._running: set[Turn] = set()
        self._lines: set[Line] = set()

    @contextmanager
    def line(self, line: Line) -> Iterator[None]:
        """Let others know of this line as long as it lasts."""
        self._lines.add(line)
        yield
        self._lines.discard(line)

    async def begin(self) -> Turn:
        """Wait for a turn; first come, first served."""
        await self._free.acquire()
        turn = Turn()
        self._running.add(turn)
        return turn

    def end(self, turn: Turn) -> None:
        """Let the next one have the thread; again changes nothing."""
        if turn in self._running:
            self._running.discard(turn)
            self._free.release()

    async def compute(
        self, turn: Turn, work: Callable[[ArgumentT], ResultT], argument: ArgumentT
    ) -> ResultT:
        """What the work returns, done on this turn's thread.

        Whoever stops waiting for it leaves the turn to the thread, which ends it when it is done.
        """
        loop = asyncio.get_running_loop()
        future = self._executor.submit(work, argument)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._running.add(kept := Turn(turn.began_s, turn.predicted_s))
            self._running.discard(turn)
            future.add_done_callback(lambda _: self._end_from_thread(loop, kept))
            raise

    async def alone(self, work: Callable[[ArgumentT], ResultT], argument: ArgumentT) -> ResultT:
        """What the work returns, done on a thread while nothing else is computed on any."""
        taken: list[Turn] = []
        async with self._taking_all:
            try:
                while len(taken) < self.num_threads:
                    taken.append(await self.begin())
                return await self.compute(taken[0], work, argument)
            finally:
                for turn in taken:
                    self.end(turn)

    def is_idle(self) -> bool:
        """Whether a turn could begin at once."""
        return not self._free.locked()

    def wait_s(self, line: Line, ahead_s: float, own_s: float) -> float:
        """Predicted seconds until a row that comes to a line now is answered.

        Lines take turns, so another one comes in between for as long as this one needs.

        Args:
            line: where it waits.
            ahead_s: what is before it there.
            own_s: its own batch.
        """
        running_s = sum(max(0.0, turn.predicted_s - turn.so_far_s()) for turn in self._running)
        needed_s = ahead_s + own_s
        others_s = sum(
            min(other.backlog_s(), needed_s) for other in self._lines if other is not line
        )
        return (running_s + ahead_s + others_s) / self.num_threads + own_s

    def _end_from_thread(self, loop: asyncio.AbstractEventLoop, turn: Turn) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self.end, turn)
