"""Concurrent requests -> batches on the model's threads; queue limit, deadlines, predicted waits.

What waits when a thread is free, and who comes back with the last answers, becomes the next batch;
there is no timer. A batch takes two steps: `prepare`, on the event loop, once for all its rows (one
round trip to the history store), and `compute`, on the thread. A row that is done already (its
deadline passed, its client left) leaves the queue at once and is never computed; one that would be
too late is not let in, or left out.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import structlog

from service.errors import (
    DeadlineExceededError,
    ModelFailedError,
    NotReadyError,
    OverloadedError,
)
from service.fair_queue import FairQueue
from service.forecast import Forecast
from service.hand_out import HandOut
from service.in_time import in_time
from service.pace import Pace
from service.turns import Turn, Turns

RequestT = TypeVar("RequestT")
JobT = TypeVar("JobT")
AnswerT = TypeVar("AnswerT")

MARGIN = 0.65
"""Of the time that is left, what a row may be predicted to need when it comes."""
TOO_LATE = "The deadline passed before there was an answer."

log = structlog.get_logger()


@dataclass(frozen=True)
class BatchLimits:
    """Rows that may wait, and rows and (padded) tokens that may share a batch."""

    max_queue_rows: int
    max_batch_rows: int
    max_batch_tokens: int


@dataclass(frozen=True)
class Outcome(Generic[AnswerT]):
    """A row's answer, where its time went, and how many rows shared its batch."""

    answer: AnswerT
    queue_ms: float
    history_ms: float
    model_ms: float
    batch_rows: int


@dataclass(eq=False, slots=True)
class _Row(Generic[RequestT, JobT, AnswerT]):
    """A request on its way; `job` is there once it is prepared."""

    request: RequestT
    future: asyncio.Future[Outcome[AnswerT]]
    group: Hashable | None
    cost_s: float
    submitted_s: float
    deadline_s: float
    job: JobT | None = None
    history_ms: float = 0.0


class Batcher(Generic[RequestT, JobT, AnswerT]):
    """Serves between __aenter__ and __aexit__; what is left then is refused as draining."""

    def __init__(
        self,
        *,
        prepare: Callable[[Sequence[RequestT]], Awaitable[list[JobT]]],
        compute: Callable[[Sequence[JobT]], list[AnswerT]],
        num_tokens: Callable[[JobT], int],
        limits: BatchLimits,
        turns: Turns,
        forecast: Forecast[RequestT, JobT],
    ) -> None:
        self._prepare_jobs = prepare
        self._compute_answers = compute
        self._num_tokens = num_tokens
        self._limits = limits
        self._turns = turns
        self._forecast = forecast
        self._waiting = FairQueue[_Row[RequestT, JobT, AnswerT]]()
        self._taken: set[_Row[RequestT, JobT, AnswerT]] = set()
        self._running: set[Turn] = set()
        self._answers = HandOut()
        self._refusals = Pace()
        self._arrived = asyncio.Event()
        self._parts = ExitStack()

    async def __aenter__(self) -> Self:
        self._parts.enter_context(self._turns.line(self))
        self._workers = [asyncio.create_task(self._run()) for _ in range(self._turns.num_threads)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.wait(self._workers)
        del self._workers  # their tracebacks would keep this, and so the engine, until a collection
        self._parts.close()
        for row in [*self._taken, *self._waiting]:
            _settle(row, NotReadyError("The service is stopping.", reason="draining"))

    def busy_s(self) -> float:
        """For how long the longest of the running batches has been running; 0 between batches."""
        return max((turn.so_far_s() for turn in self._running), default=0.0)

    def num_waiting(self) -> int:
        """Rows that wait for a thread."""
        return len(self._waiting)

    def oldest_wait_s(self) -> float:
        """For how long the oldest of them has been waiting; 0 without any."""
        since_s = min((row.submitted_s for row in self._waiting.first()), default=None)
        return 0.0 if since_s is None else time.perf_counter() - since_s

    def backlog_s(self) -> float:
        """Predicted seconds that what waits will take."""
        return self._waiting.cost_s * self._forecast.correction

    async def submit(
        self, request: RequestT, *, timeout_s: float, group: Hashable | None = None
    ) -> Outcome[AnswerT]:
        """The request's answer, or OverloadedError, DeadlineExceededError, ModelFailedError.

        Cancelling the caller takes the request out of the queue.

        Args:
            request: for `prepare`.
            timeout_s: what is left until its deadline.
            group: the same for requests that came together, see FairQueue; None = came alone.
        """
        try:
            self._admit(request, timeout_s, group)
        except OverloadedError:
            await self._refusals.wait(timeout_s)
            raise
        loop, now_s = asyncio.get_running_loop(), time.perf_counter()
        cost_s = self._forecast.row_s(request)
        row = _Row[RequestT, JobT, AnswerT](
            request, loop.create_future(), group, cost_s, now_s, now_s + timeout_s
        )
        self._waiting.add(row)
        row.future.add_done_callback(lambda _: self._waiting.discard(row))
        self._arrived.set()
        timer = loop.call_later(timeout_s, _settle, row, DeadlineExceededError(TOO_LATE))
        try:
            return await row.future
        finally:
            timer.cancel()

    def _admit(self, request: RequestT, timeout_s: float, group: Hashable | None) -> None:
        """Refuse now what would wait for nothing; with nothing else to do, everything is tried."""
        if timeout_s <= 0:
            raise DeadlineExceededError(TOO_LATE)
        num_waiting = len(self._waiting)
        if not num_waiting and self._turns.is_idle():
            return
        own_s = self._forecast.alike_s(request, min(num_waiting + 1, self._limits.max_batch_rows))
        ahead_s = self._waiting.ahead_s(group) * self._forecast.correction
        wait_s = self._turns.wait_s(self, ahead_s, own_s)
        if num_waiting >= self._limits.max_queue_rows:
            detail, retry_after_s = "Too many requests are waiting; try again later.", wait_s
        elif wait_s > MARGIN * timeout_s:
            detail = f"The answer would take about {wait_s:.2g} s, longer than its deadline allows."
            retry_after_s = wait_s - MARGIN * timeout_s
        else:
            return
        raise OverloadedError(detail, retry_after_s=max(1.0, retry_after_s))

    async def _run(self) -> None:
        """Batch after batch, until cancelled."""
        while True:
            while not len(self._waiting):
                self._arrived.clear()
                await self._arrived.wait()
            await self._answers.returned(self.num_waiting, self._limits.max_batch_rows)
            turn = await self._turns.begin()
            try:
                rows = self._waiting.take(self._limits.max_batch_rows)
                self._taken.update(rows)
                self._running.add(turn)
                if rows:
                    await self._serve(turn, rows)
            finally:
                self._running.discard(turn)
                self._turns.end(turn)
            self._taken.difference_update(rows)

    async def _serve(self, turn: Turn, rows: Sequence[_Row[RequestT, JobT, AnswerT]]) -> None:
        """Prepare these rows, compute those that fit into a batch; the others go on waiting."""
        try:
            if new := [row for row in rows if row.job is None]:
                await self._prepare(new)
            if rows := [row for row in rows if not row.future.done()]:
                rows, jobs = self._cut(turn, rows)
                await self._compute(turn, rows, jobs)
        except Exception as error:
            for row in rows:
                failed = ModelFailedError("The model failed on this request; it has been logged.")
                failed.__cause__ = error
                _settle(row, failed)
            log.exception("batch_failed", rows=len(rows))

    async def _prepare(self, rows: Sequence[_Row[RequestT, JobT, AnswerT]]) -> None:
        """Give each row its job."""
        began_s = time.perf_counter()
        jobs = await self._prepare_jobs([row.request for row in rows])
        history_ms = (time.perf_counter() - began_s) * 1000
        for row, job in zip(rows, jobs, strict=True):
            row.job, row.history_ms = job, history_ms

    def _cut(
        self, turn: Turn, rows: Sequence[_Row[RequestT, JobT, AnswerT]]
    ) -> tuple[Sequence[_Row[RequestT, JobT, AnswerT]], list[JobT]]:
        """The rows that are computed now, and their jobs with the effort that there is time for.

        As many as max_batch_tokens allows when padded, if in time, but at least one. The others go
        back, or learn now that they would be too late.
        """
        longest, size = 0, 0
        for row in rows:
            assert row.job is not None
            longest = max(longest, self._num_tokens(row.job))
            if size and longest * (size + 1) > self._limits.max_batch_tokens:
                break
            size += 1
        tried: list[list[JobT]] = []  # what is tried last is what is done

        def batch_s(some: Sequence[_Row[RequestT, JobT, AnswerT]], effort: int) -> float:
            tried.append(self._forecast.adapted(_jobs(some), effort))
            return self._forecast.batch_s(tried[-1])

        batch = in_time(rows[:size], batch_s, self._forecast.efforts(self.backlog_s()))
        turn.predicted_s = batch.predicted_s
        for row in batch.never:
            _settle(row, DeadlineExceededError(TOO_LATE))
        back = rows[size:]
        self._taken.difference_update(back)
        self._waiting.put_back(back)
        return batch.now, tried[-1]

    async def _compute(
        self, turn: Turn, rows: Sequence[_Row[RequestT, JobT, AnswerT]], jobs: Sequence[JobT]
    ) -> None:
        """Compute the batch on the turn's thread and hand out its answers."""
        began_s = time.perf_counter()
        answers = await self._turns.compute(turn, self._compute_answers, jobs)
        model_ms = (time.perf_counter() - began_s) * 1000
        self._forecast.learn(jobs, turn.predicted_s, turn.so_far_s())
        outcomes = [
            Outcome(
                answer,
                queue_ms=(began_s - row.submitted_s) * 1000 - row.history_ms,
                history_ms=row.history_ms,
                model_ms=model_ms,
                batch_rows=len(rows),
            )
            for row, answer in zip(rows, answers, strict=True)
        ]
        self._answers.give([row.future for row in rows], outcomes, model_ms / 1000)


def _jobs(rows: Sequence[_Row[RequestT, JobT, AnswerT]]) -> list[JobT]:
    return [row.job for row in rows if row.job is not None]


def _settle(row: _Row[RequestT, JobT, AnswerT], error: Exception) -> None:
    """Let the row fail, unless it is done already."""
    if not row.future.done():
        row.future.set_exception(error)
