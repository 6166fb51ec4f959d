"""Concurrent requests -> batches on the one model thread; queue limit and deadlines.

What waits when the model thread is free becomes the next batch; there is no timer. A batch takes
two steps: `prepare`, on the event loop, once for all its rows (one round trip to the history
store), and `compute`, on the model thread. A row that is done already (its deadline passed, its
client left) leaves the queue at once and is never computed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Generic, Self, TypeVar

import structlog

from service.errors import (
    DeadlineExceededError,
    ModelFailedError,
    NotReadyError,
    OverloadedError,
)

RequestT = TypeVar("RequestT")
JobT = TypeVar("JobT")
AnswerT = TypeVar("AnswerT")

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
    job: JobT | None = None
    submitted_s: float = field(default_factory=time.perf_counter)
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
        model_thread: Executor,
    ) -> None:
        self._prepare_jobs = prepare
        self._compute_answers = compute
        self._num_tokens = num_tokens
        self._limits = limits
        self._model_thread = model_thread
        self._waiting: dict[_Row[RequestT, JobT, AnswerT], None] = {}  # oldest first
        self._computing: Sequence[_Row[RequestT, JobT, AnswerT]] = ()
        self._arrived = asyncio.Event()
        self._batch_began_s: float | None = None
        self._last_batch_s = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        del self._task  # its traceback would keep this, and so the engine, until a collection
        for row in [*self._computing, *self._waiting]:
            _settle(row, NotReadyError("The service is stopping.", reason="draining"))

    def busy_s(self) -> float:
        """For how long the current batch has been running; 0 between batches."""
        return 0.0 if self._batch_began_s is None else time.perf_counter() - self._batch_began_s

    def num_waiting(self) -> int:
        """Rows that wait for the model thread."""
        return len(self._waiting)

    def oldest_wait_s(self) -> float:
        """For how long the oldest of them has been waiting; 0 without any."""
        oldest = next(iter(self._waiting), None)
        return 0.0 if oldest is None else time.perf_counter() - oldest.submitted_s

    async def submit(self, request: RequestT, *, timeout_s: float) -> Outcome[AnswerT]:
        """The request's answer, or OverloadedError, DeadlineExceededError, ModelFailedError.

        Cancelling the caller takes the request out of the queue.
        """
        if len(self._waiting) >= self._limits.max_queue_rows:
            batches_ahead = len(self._waiting) / self._limits.max_batch_rows
            raise OverloadedError(
                "Too many requests are waiting; try again later.",
                retry_after_s=max(1.0, batches_ahead * self._last_batch_s),
            )
        loop = asyncio.get_running_loop()
        row = _Row[RequestT, JobT, AnswerT](request, loop.create_future())
        self._waiting[row] = None
        row.future.add_done_callback(lambda _: self._waiting.pop(row, None))
        self._arrived.set()
        too_late = DeadlineExceededError("The deadline passed before there was an answer.")
        timer = loop.call_later(timeout_s, _settle, row, too_late)
        try:
            return await row.future
        finally:
            timer.cancel()

    async def _run(self) -> None:
        """Batch after batch, until cancelled."""
        while True:
            self._arrived.clear()
            alive = (row for row in self._waiting if not row.future.done())
            rows = list(islice(alive, self._limits.max_batch_rows))
            if not rows:
                await self._arrived.wait()
                continue
            self._batch_began_s = time.perf_counter()
            await self._serve(rows)
            self._last_batch_s = self.busy_s()
            self._batch_began_s = None

    async def _serve(self, rows: Sequence[_Row[RequestT, JobT, AnswerT]]) -> None:
        """Prepare these rows, compute those that fit into a batch; the others go on waiting."""
        try:
            if new := [row for row in rows if row.job is None]:
                await self._prepare(new)
            if rows := self._cut([row for row in rows if not row.future.done()]):
                await self._compute(rows)
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
        self, rows: Sequence[_Row[RequestT, JobT, AnswerT]]
    ) -> list[_Row[RequestT, JobT, AnswerT]]:
        """The first rows, as many as max_batch_tokens allows when padded, but at least one."""
        batch: list[_Row[RequestT, JobT, AnswerT]] = []
        longest = 0
        for row in rows:
            assert row.job is not None
            longest = max(longest, self._num_tokens(row.job))
            if batch and longest * (len(batch) + 1) > self._limits.max_batch_tokens:
                break
            batch.append(row)
        return batch

    async def _compute(self, rows: Sequence[_Row[RequestT, JobT, AnswerT]]) -> None:
        """Compute the batch on the model thread and hand out its answers."""
        began_s = time.perf_counter()
        self._computing = rows
        for row in rows:
            self._waiting.pop(row, None)
        jobs = [row.job for row in rows if row.job is not None]
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._model_thread, self._compute_answers, jobs)
        model_ms = (time.perf_counter() - began_s) * 1000
        for row, answer in zip(rows, answers, strict=True):
            queue_ms = (began_s - row.submitted_s) * 1000 - row.history_ms
            outcome = Outcome(answer, queue_ms, row.history_ms, model_ms, len(rows))
            if not row.future.done():
                row.future.set_result(outcome)


def _settle(row: _Row[RequestT, JobT, AnswerT], error: Exception) -> None:
    """Let the row fail, unless it is done already."""
    if not row.future.done():
        row.future.set_exception(error)
