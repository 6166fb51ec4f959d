"""Trials: answers that are given again in the background, and compared; nobody waits for them.

A shadow version answers a share of the requests along, before it serves anybody. A beam check
searches a share of the answers again exactly, which tells how much of the best the beam misses.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace

import structlog

from model.engine import Query
from service.errors import ServiceError
from service.metrics import Metrics
from service.plan import WHOLE, bucket
from service.recommender import Recommender
from service.schemas import RecommendRequest, RecommendResponse
from service.serving import Serving

MAX_RUNNING = 64
MAX_CHECKED_ITEMS = 100_000
"""Of a larger catalog an exact search may take seconds, in which nobody is answered."""
CHECK_TIMEOUT_S = 60.0

log = structlog.get_logger()


@dataclass
class Trials:
    """Counts how trials went; `metrics` has the results.

    Args:
        metrics: of the service.
        beam_check_percent: of the model's answers, how many are searched again exactly.
    """

    metrics: Metrics
    beam_check_percent: float = 0.0
    _unheard: Metrics = field(default_factory=Metrics)
    """What shadows count as if they had been asked."""
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    def shadow(
        self, shadow: Serving, percent: float, request: RecommendRequest, answer: RecommendResponse
    ) -> None:
        """Let the shadow answer too, if it is this answer's turn."""
        if _is_turn(answer, "shadow", percent):
            recommender = replace(shadow.recommender, metrics=self._unheard)
            self._start(self._compare(recommender, request, answer))

    def check_beam(self, serving: Serving, query: Query, answer: RecommendResponse) -> None:
        """Search again exactly, if it is this answer's turn and the catalog is small enough."""
        if answer.source == "model" and _is_turn(answer, "beam", self.beam_check_percent):
            if len(serving.engine.catalog) > MAX_CHECKED_ITEMS:
                self.metrics.trial_dropped()
                return
            self._start(self._check(serving, query, answer))

    async def close(self) -> None:
        """Give up what is still running."""
        for task in self._running:
            task.cancel()

    def _start(self, trial: Coroutine[None, None, None]) -> None:
        if len(self._running) >= MAX_RUNNING:
            trial.close()
            self.metrics.trial_dropped()
            return
        task = asyncio.create_task(trial)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _compare(
        self, recommender: Recommender, request: RecommendRequest, answer: RecommendResponse
    ) -> None:
        try:
            shadowed, outcome = await recommender.recommend(request, arrived_s=time.perf_counter())
        except ServiceError:
            self.metrics.trial_dropped()
            return
        both = _ids(answer) & _ids(shadowed)
        num_items = max(len(answer.items), len(shadowed.items))
        self.metrics.shadow_compared(num_items, len(both), outcome.model_ms)

    async def _check(self, serving: Serving, query: Query, answer: RecommendResponse) -> None:
        exact = replace(query, decode="exact", explain=False)
        try:
            outcome = await serving.checker.submit(exact, timeout_s=CHECK_TIMEOUT_S)
        except ServiceError:
            self.metrics.trial_dropped()
            return
        item_ids = serving.engine.catalog.item_ids
        best = {item_ids[item.item_index] for item in outcome.answer.items}
        self.metrics.beam_checked(len(best), len(best & _ids(answer)))


def _ids(answer: RecommendResponse) -> set[str]:
    return {item.item_id for item in answer.items}


def _is_turn(answer: RecommendResponse, purpose: str, percent: float) -> bool:
    """Whether this answer is of the share; its random id decides."""
    return percent > 0 and bucket(answer.recommendation_id, purpose) * WHOLE < percent
