"""Every Prometheus metric of the service, declared once; gauges.py has those that are looked up.

A name is `stamp_`, what is counted, and the base unit (`_seconds`, `_bytes`); counters end in
`_total`. What happens is counted as it happens, at a microsecond each.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from service.errors import HistoryStoreError, ServiceError
from service.gauges import Live

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
DURATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
TOKEN_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048)
BATCH_TOKEN_BUCKETS = (64, 256, 1024, 4096, 16_384, 65_536)
LOAD_BUCKETS_S = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
BEAM_BUCKETS = (10, 20, 50, 100, 200, 500)


class Job(Protocol):
    """What is looked up of a row that is ready for the model."""

    @property
    def history_failed(self) -> bool:
        """Whether the history store failed on it."""
        ...


RequestT = TypeVar("RequestT")
JobT = TypeVar("JobT", bound=Job)
AnswerT = TypeVar("AnswerT")


class Metrics:
    """The metrics of one app, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # process-wide; half the series
        self.registry = CollectorRegistry()
        self.live = Live()
        self.registry.register(self.live)
        ProcessCollector(registry=self.registry)
        self._declare_http()
        self._declare_batches()
        self._declare_answers()
        self._declare_models()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in Prometheus' text format, or OpenMetrics if asked for, and the media type.

        Args:
            accept: the request's header.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def request_done(
        self, route: str, method: str, status: int, duration_s: float, code: str | None
    ) -> None:
        """Count a request, by the template of its route; `code` is of the problem, if any."""
        key = (route, method, status)
        children = self._requests_of.get(key)
        if children is None:
            known = method if method in METHODS else "other"
            children = self._requests_of[key] = (
                self._requests.labels(route, known, str(status)),
                self._request_duration.labels(route, known),
            )
        children[0].inc()
        children[1].observe(duration_s)
        if code is not None:
            self._problems.labels(code).inc()
            if code == HistoryStoreError.code:
                self._store_errors.inc()

    def row_answered(
        self,
        version: str,
        source: str,
        degraded: Sequence[str],
        stages_ms: Sequence[float],
        *,
        short: bool,
    ) -> None:
        """Count an answer.

        Args:
            version: of the model that answered.
            source: of the items.
            degraded: what did not work.
            stages_ms: time in the queue, at the history store, in the model.
            short: whether there were fewer items than asked for.
        """
        self._answers.labels(source).inc()
        self._answers_by_version.labels(version).inc()
        for stage, ms in zip(self._stages, stages_ms, strict=True):
            stage.observe(ms / 1000)
        if short:
            self._short.inc()
        for kind in degraded:
            self._degraded.labels(kind).inc()

    def row_decoded(self, tokens_in: int, tokens_kept: int, beam_width: int) -> None:
        """Count what the model read and decoded for one row."""
        self._tokens_read.observe(tokens_in)
        self._tokens_kept.observe(tokens_kept)
        self._beam_width.observe(beam_width)

    def row_unanswered(self, code: str) -> None:
        """Count a row that got no answer, by the code of the problem."""
        self._unanswered.labels(code).inc()

    def batch_predicted(self, seconds: float) -> None:
        """Count what a batch that was computed had been predicted to take."""
        self._batch_predicted.observe(seconds)

    def model_loaded(self, seconds: float) -> None:
        """Count a version that was loaded and warmed."""
        self._loads.labels("ok").inc()
        self._load_duration.observe(seconds)

    def model_unusable(self) -> None:
        """Count a version that could not be loaded."""
        self._loads.labels("failed").inc()

    def shadow_compared(self, num_items: int, num_agreed: int, model_ms: float) -> None:
        """Count an answer's items, those that the shadow gave too, and the shadow's time."""
        self._shadow_items.inc(num_items)
        self._shadow_agreed.inc(num_agreed)
        self._shadow_duration.observe(model_ms / 1000)

    def beam_checked(self, num_best: int, num_found: int) -> None:
        """Count the best items by an exact search, and those of them that the beam had found."""
        self._beam_best.inc(num_best)
        self._beam_found.inc(num_found)

    def trial_dropped(self) -> None:
        """Count a comparison that was given up because there is too much to do."""
        self._trials_dropped.inc()

    def counted_reads(
        self, prepare: Callable[[Sequence[RequestT]], Awaitable[list[JobT]]]
    ) -> Callable[[Sequence[RequestT]], Awaitable[list[JobT]]]:
        """`prepare`, with failures of the history store counted, once a batch."""

        async def counted(requests: Sequence[RequestT]) -> list[JobT]:
            jobs = await prepare(requests)
            if any(job.history_failed for job in jobs):
                self._store_errors.inc()
            return jobs

        return counted

    def counted_batches(
        self,
        compute: Callable[[Sequence[JobT]], list[AnswerT]],
        num_tokens: Callable[[JobT], int],
    ) -> Callable[[Sequence[JobT]], list[AnswerT]]:
        """`compute`, with the batches that it ends counted."""

        def counted(jobs: Sequence[JobT]) -> list[AnswerT]:
            began_s = time.perf_counter()
            answers = compute(jobs)
            self._batch_duration.observe(time.perf_counter() - began_s)
            self._batch_rows.observe(len(jobs))
            self._batch_tokens.observe(len(jobs) * max(map(num_tokens, jobs)))
            return answers

        return counted

    def _declare_http(self) -> None:
        self._requests_of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._requests = self._counter(
            "stamp_http_requests_total", "Requests answered.", "route", "method", "status"
        )
        self._request_duration = self._histogram(
            "stamp_http_request_duration_seconds",
            "From a request's arrival to the end of its response.",
            DURATION_BUCKETS_S,
            "route",
            "method",
        )
        self._problems = self._counter("stamp_problems_total", "Requests that failed.", "code")
        for error in ServiceError.__subclasses__():
            self._problems.labels(error.code)

    def _declare_batches(self) -> None:
        name, text = "stamp_batch_rows", "Rows that shared a batch of the model."
        self._batch_rows = self._histogram(name, text, ROW_BUCKETS)
        name, text = "stamp_batch_tokens", "History tokens in a batch, padding counted."
        self._batch_tokens = self._histogram(name, text, BATCH_TOKEN_BUCKETS)
        name, text = "stamp_batch_duration_seconds", "A batch on the model thread."
        self._batch_duration = self._histogram(name, text, DURATION_BUCKETS_S)
        name, text = "stamp_batch_predicted_seconds", "What a batch was predicted to take."
        self._batch_predicted = self._histogram(name, text, DURATION_BUCKETS_S)
        name, text = "stamp_history_store_errors_total", "Times that the history store failed."
        self._store_errors = self._counter(name, text)

    def _declare_answers(self) -> None:
        self._answers = self._counter("stamp_answers_total", "Rows answered.", "source")
        name, text = "stamp_stage_duration_seconds", "Where an answer's time went."
        stages = self._histogram(name, text, DURATION_BUCKETS_S, "stage")
        self._stages = [stages.labels(stage) for stage in ("queue", "history", "model")]
        name, text = "stamp_short_answers_total", "Rows answered with fewer items than asked for."
        self._short = self._counter(name, text)
        name, text = "stamp_degraded_answers_total", "Rows answered although something failed."
        self._degraded = self._counter(name, text, "kind")
        name, text = "stamp_unanswered_rows_total", "Rows refused, expired, failed or given up."
        self._unanswered = self._counter(name, text, "code")
        name, text = "stamp_history_tokens", "A history's tokens, before SAP and after it."
        tokens = self._histogram(name, text, TOKEN_BUCKETS, "sap")
        self._tokens_read, self._tokens_kept = tokens.labels("before"), tokens.labels("after")
        name, text = "stamp_beam_width", "Beams that were searched with."
        self._beam_width = self._histogram(name, text, BEAM_BUCKETS)

    def _declare_models(self) -> None:
        name, text = "stamp_model_answers_total", "Rows answered, by the model's version."
        self._answers_by_version = self._counter(name, text, "version")
        name, text = "stamp_model_loads_total", "Versions of the model that were loaded, or not."
        self._loads = self._counter(name, text, "result")
        name, text = "stamp_model_load_duration_seconds", "Loading and warming a version."
        self._load_duration = self._histogram(name, text, LOAD_BUCKETS_S)
        name, text = "stamp_shadow_items_total", "Items of answers that the shadow answered along."
        self._shadow_items = self._counter(name, text)
        name, text = "stamp_shadow_items_agreed_total", "Those of them that both had."
        self._shadow_agreed = self._counter(name, text)
        name, text = "stamp_shadow_model_duration_seconds", "A shadow's batch."
        self._shadow_duration = self._histogram(name, text, DURATION_BUCKETS_S)
        name, text = "stamp_beam_check_items_total", "Best items by an exact search, on a sample."
        self._beam_best = self._counter(name, text)
        name, text = "stamp_beam_check_items_found_total", "Those of them that the beam had found."
        self._beam_found = self._counter(name, text)
        name, text = "stamp_trials_dropped_total", "Comparisons given up for want of time."
        self._trials_dropped = self._counter(name, text)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)
