"""Prediction: what an engine's requests and batches will take, by its cost model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from model.engine import Engine, Query, Shape
from service.cost import CostModel
from service.dial import Dial
from service.recommender import Job
from service.schemas import RecommendRequest

MEMORY = 0.02
"""What the newest stored history adds to their typical length, of 1."""

MAX_KEPT = 4096
"""Kinds of requests whose cost need not be worked out again."""


@dataclass
class Prediction:
    """A batcher's Forecast of one engine.

    Args:
        engine: that computes.
        costs: of its shapes.
        dial: what effort there is time for.
        default_beam_width: of requests that name none; None = the engine's own.
        max_batch_rows: of a large batch.
        on_batch: told the predicted seconds of every batch.
        typical_items: of stored histories, which are not read before their batch is formed.
    """

    engine: Engine
    costs: CostModel
    dial: Dial
    default_beam_width: int | None
    max_batch_rows: int
    on_batch: Callable[[float], None]
    typical_items: float = 1.0
    _of: dict[tuple[int, int, int | None, float | None], tuple[float, Shape]] = field(
        default_factory=dict
    )

    @property
    def correction(self) -> float:
        """See CostModel."""
        return self.costs.correction

    def row_s(self, request: RecommendRequest) -> float:
        """Its part of the largest batch."""
        return self._known(request)[0]

    def alike_s(self, request: RecommendRequest, rows: int) -> float:
        """One group of a batch, with the least effort that the request allows."""
        return self.correction * self.costs.group_s(self._known(request)[1], rows)

    def efforts(self, backlog_s: float) -> Sequence[int]:
        """See Dial."""
        return self.dial.efforts(backlog_s)

    def adapted(self, jobs: Sequence[Job], effort: int) -> list[Job]:
        """See Dial."""
        return self.dial.adapted(jobs, effort)

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

    def _known(self, request: RecommendRequest) -> tuple[float, Shape]:
        """`row_s`, and the shape with the least effort; as far as known before the history is."""
        known = request.history
        num_items = max(1, round(self.typical_items)) if known is None else max(1, len(known))
        asked = (num_items, request.limit, request.beam_width, request.retention_ratio)
        if asked not in self._of:
            if len(self._of) >= MAX_KEPT:
                self._of.clear()
            self._of[asked] = self._look_up(*asked)
        return self._of[asked]

    def _look_up(
        self, num_items: int, limit: int, beam_width: int | None, ratio: float | None
    ) -> tuple[float, Shape]:
        width = beam_width or self.default_beam_width
        query = Query(range(num_items), limit=limit, beam_width=width, retention_ratio=ratio)
        rows, greatest = self.max_batch_rows, self.engine.shape(query)
        least = self.dial.query(query, -1, ratio=ratio is None, beam=beam_width is None)
        return self.costs.group_s(greatest, rows) / rows, self.engine.shape(least)
