"""HandOut: a batch's answers leave some at a time, and the next batch waits for who comes back."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

AnswerT = TypeVar("AnswerT")

AT_ONCE = 4
"""Answers that are handed out before the event loop looks at anything else."""
PATIENCE = 8
"""Looks at the network that bring nobody, after answers went out, before a batch begins."""
MIN_WAIT_S, MAX_SHARE = 0.005, 0.3
"""Seconds, and the share of a batch's time, that may be spent on waiting for its callers: in a
storm of requests, most of them refused, every look takes as long as all of them do."""


class HandOut:
    """What goes from one batch to the next: answers to callers, and callers to the queue."""

    def __init__(self) -> None:
        self._leaving = 0
        self._looks_left = 0
        self._until_s = 0.0

    def give(
        self,
        futures: Sequence["asyncio.Future[AnswerT]"],
        answers: Sequence[AnswerT],
        batch_s: float,
    ) -> None:
        """Resolve each future with its answer, unless it is done, some now and the others soon.

        Each is a response to be written. Whatever else the event loop has to do gets a turn in
        between. `batch_s` is what the batch took.
        """
        self._leaving += 1
        self._looks_left = PATIENCE
        self._until_s = time.perf_counter() + max(MIN_WAIT_S, MAX_SHARE * batch_s)
        self._go_on(futures, answers)

    async def returned(self, num_waiting: Callable[[], int], enough: int) -> None:
        """Wait until those who just got their answers are back, or until so many wait.

        Without this, busy callers fall into two halves, each of which waits for the other's batch.
        It takes as long as the event loop is busy with answers and new rows, and a few looks at the
        network more, within MAX_SHARE; whoever comes to an idle service waits for nothing.
        """
        while self._looks_left and (before := num_waiting()) < enough:
            if time.perf_counter() > self._until_s:
                return
            await asyncio.sleep(0)
            busy = self._leaving or num_waiting() > before
            self._looks_left = PATIENCE if busy else self._looks_left - 1

    def _go_on(
        self, futures: Sequence["asyncio.Future[AnswerT]"], answers: Sequence[AnswerT]
    ) -> None:
        for future, answer in zip(futures[:AT_ONCE], answers[:AT_ONCE], strict=True):
            if not future.done():
                future.set_result(answer)
        if len(futures) > AT_ONCE:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._go_on, futures[AT_ONCE:], answers[AT_ONCE:])
        else:
            self._leaving -= 1
