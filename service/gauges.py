"""Metrics of what merely is - the queue, the prompt cache, the model - looked up when scraped."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from model.engine import Engine
from service.lifecycle import STATES

BREAKER_STATES = ("closed", "half_open", "open")


class Queue(Protocol):
    """What is looked up of a Batcher."""

    def num_waiting(self) -> int:
        """Rows that wait."""
        ...

    def oldest_wait_s(self) -> float:
        """For how long the oldest of them has waited."""
        ...

    def busy_s(self) -> float:
        """For how long the current batch has been running."""
        ...


class Live(Collector):
    """What is looked up when it is scraped; whoever builds a part sets its field here.

    Args:
        in_flight: requests that are being answered.
        state: of the service's life, one of STATES.
        breaker: state of the history store's circuit breaker, one of BREAKER_STATES; None = there
            is none.
        queue: of the model.
        engine: that answers.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.state: Callable[[], str] = lambda: "loading"
        self.breaker: Callable[[], str] | None = None
        self.queue: Queue | None = None
        self.engine: Engine | None = None

    def collect(self) -> Iterator[Metric]:
        """Every family, without a sample as long as its part is not there."""
        yield GaugeMetricFamily(
            "stamp_http_requests_in_flight", "Requests being answered.", self.in_flight
        )
        yield _one_of("stamp_state", "1 for the state the service is in.", STATES, self.state)
        yield _one_of(
            "stamp_history_breaker_state",
            "1 for the state of the history store's circuit breaker.",
            BREAKER_STATES,
            self.breaker,
        )
        yield from self._queue()
        yield from self._model()

    def _queue(self) -> Iterator[Metric]:
        rows = GaugeMetricFamily("stamp_queue_rows", "Rows that wait for the model.")
        oldest = GaugeMetricFamily("stamp_queue_oldest_seconds", "How long the oldest row waits.")
        busy = GaugeMetricFamily("stamp_batch_running_seconds", "How long the batch runs by now.")
        if self.queue is not None:
            rows.add_metric([], self.queue.num_waiting())
            oldest.add_metric([], self.queue.oldest_wait_s())
            busy.add_metric([], self.queue.busy_s())
        yield from (rows, oldest, busy)

    def _model(self) -> Iterator[Metric]:
        model = InfoMetricFamily("stamp_model", "1 for the model that answers.")
        hits = CounterMetricFamily("stamp_prompt_cache_hits", "Histories not read again.")
        misses = CounterMetricFamily("stamp_prompt_cache_misses", "Histories read.")
        evictions = CounterMetricFamily("stamp_prompt_cache_evictions", "Histories that made room.")
        rows = GaugeMetricFamily("stamp_prompt_cache_rows", "Histories kept.")
        size = GaugeMetricFamily("stamp_prompt_cache_bytes", "Memory of the histories kept.")
        if self.engine is not None:
            manifest, cache = self.engine.manifest, self.engine.prompts.stats()
            model.add_metric([], {"name": manifest.name, "version": manifest.version})
            hits.add_metric([], cache.hits)
            misses.add_metric([], cache.misses)
            evictions.add_metric([], cache.evictions)
            rows.add_metric([], cache.rows)
            size.add_metric([], cache.num_bytes)
        yield from (model, hits, misses, evictions, rows, size)


def _one_of(
    name: str, text: str, states: Sequence[str], current: Callable[[], str] | None
) -> Metric:
    """A gauge for each state, 1 for the current one."""
    family = GaugeMetricFamily(name, text, labels=["state"])
    if current is not None:
        now = current()
        for state in states:
            family.add_metric([state], float(state == now))
    return family
