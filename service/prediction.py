"""Prediction: what an engine's requests and batches will take, by its cost model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.engine import Engine, Query, Shape
from service.cost import CostModel
from service.recommender import Job
from service.schemas import RecommendRequest

MEMORY = 0.02
"""What the newest stored history adds to their typical length, of 1."""


@dataclass
class Prediction:
    """A batcher's Forecast of one engine.

    Args:
        engine: that computes.
        costs: of its shapes.
        default_beam_width: of requests that name none; None = the engine's own.
        max_batch_rows: of a large batch.
        on_batch: told the predicted seconds of every batch.
        typical_items: of stored histories, which are not read before their batch is formed.
    """

    engine: Engine
    costs: CostModel
    default_beam_width: int | None
    max_batch_rows: int
    on_batch: Callable[[float], None]
    typical_items: float = 1.0

    @property
    def correction(self) -> float:
        """See CostModel."""
        return self.costs.correction

    def row_s(self, request: RecommendRequest) -> float:
        """Its part of the largest batch."""
        return self.costs.group_s(self._shape(request), self.max_batch_rows) / self.max_batch_rows

    def alike_s(self, request: RecommendRequest, rows: int) -> float:
        """One group of a batch."""
        return self.correction * self.costs.group_s(self._shape(request), rows)

    def batch_s(self, jobs: Sequence[Job]) -> float:
        """Cold users cost nothing worth mentioning."""
        shapes = [self.engine.shape(job.query) for job in jobs if job.query.history]
        return self.costs.batch_s(shapes)

    def learn(self, jobs: Sequence[Job], predicted_s: float, measured_s: float) -> None:
        """From every batch that the model took part in."""
        self.on_batch(predicted_s)
        self.costs.learn(predicted_s, measured_s)
        for job in jobs:
            if job.request.history is None:
                self.typical_items += MEMORY * (len(job.query.history) - self.typical_items)

    def _shape(self, request: RecommendRequest) -> Shape:
        """As far as it is known before the history is."""
        known = request.history
        num_items = max(1, round(self.typical_items)) if known is None else max(1, len(known))
        query = Query(
            range(num_items),
            limit=request.limit,
            beam_width=request.beam_width or self.default_beam_width,
            retention_ratio=request.retention_ratio,
        )
        return self.engine.shape(query)
