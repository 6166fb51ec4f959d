"""Numbers as requests: work for a batcher whose every step a test can see and hold up."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from service.batcher import Batcher, BatchLimits, Outcome
from service.forecast import Average
from service.turns import Turns

PATIENCE_S = 20.0
LIMITS = BatchLimits(max_queue_rows=8, max_batch_rows=4, max_batch_tokens=100)


class Work:
    """Requests are numbers; a job is the request and as many tokens; the answer is its tenfold."""

    def __init__(self) -> None:
        self.prepared: list[list[int]] = []
        self.computed: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failing: set[int] = set()
        self._begun = threading.Semaphore(0)

    async def prepare(self, requests: Sequence[int]) -> list[int]:
        """Note the requests."""
        self.prepared.append(list(requests))
        if self.failing & {-request for request in requests}:
            raise RuntimeError("cannot prepare")
        return list(requests)

    def compute(self, jobs: Sequence[int]) -> list[int]:
        """Note the jobs, wait for the gate, answer."""
        self.computed.append(list(jobs))
        self._begun.release()
        assert self.gate.wait(PATIENCE_S)
        if self.failing & set(jobs):
            raise RuntimeError("cannot compute")
        return [10 * job for job in jobs]

    async def until_busy(self) -> None:
        """Wait until one more batch has begun."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=PATIENCE_S)


IntBatcher = Batcher[int, int, int]


def batcher_of(work: Work, limits: BatchLimits = LIMITS, turns: Turns | None = None) -> IntBatcher:
    """A batcher for this work, on a thread of its own unless there are turns."""
    return Batcher(
        prepare=work.prepare,
        compute=work.compute,
        num_tokens=int,
        limits=limits,
        turns=turns or Turns(ThreadPoolExecutor(1)),
        forecast=Average(),
    )


Submitted = asyncio.Task[Outcome[int]]


async def submit(batcher: IntBatcher, *requests: int, timeout_s: float = 60) -> list[Submitted]:
    """Submit requests in this order; they wait when this returns."""
    tasks = [
        asyncio.create_task(batcher.submit(request, timeout_s=timeout_s)) for request in requests
    ]
    await asyncio.sleep(0)
    return tasks


async def answers(tasks: Sequence[Submitted]) -> list[int]:
    """The answers of all tasks."""
    return [outcome.answer for outcome in await asyncio.gather(*tasks)]
