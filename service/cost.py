"""CostModel: how long a batch will take, learned while warming up and corrected ever since."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product
from operator import mul

import numpy as np
import numpy.typing as npt

from model.engine import Shape
from model.rehearsal import Timing

MEMORY = 0.2
"""What the newest batch adds to the correction, of 1."""
MAX_SURPRISE = math.log(4)
"""A batch that took longer than this times the prediction (a pause, say) counts as this."""
MAX_CORRECTION = math.log(50)


class CostModel:
    """Predicts seconds; wrong by a common factor at most for as long as that factor moves.

    A group of equal rows costs a weight for itself, one for each row, and others for what each row
    reads before and after the cut, for its beams, and for what these look at.
    """

    def __init__(self, weights: Sequence[float] = (0.0,) * 6) -> None:
        """Predict by six weights in seconds, see `_terms`; by default everything takes no time."""
        self._weights = tuple(weights)
        self._log_correction = 0.0

    @classmethod
    def fit(cls, timings: Sequence[Timing]) -> "CostModel":
        """The weights, none of them negative, with the smallest relative errors."""
        if not timings:
            return cls()
        terms = np.array([_terms(each.shape, each.rows) for each in timings])
        seconds = np.array([each.seconds for each in timings])
        return cls(_non_negative_fit(terms / seconds[:, None]).tolist())

    @property
    def correction(self) -> float:
        """By what the weights' predictions are multiplied, going by the latest batches."""
        return math.exp(self._log_correction)

    def group_s(self, shape: Shape, rows: float) -> float:
        """Seconds of one group of a batch, before the correction."""
        seconds: float = sum(map(mul, self._weights, _terms(shape, rows)))
        return seconds

    def batch_s(self, shapes: Sequence[Shape]) -> float:
        """Seconds of a batch of these rows."""
        groups = Counter(shapes).items()
        return self.correction * sum(self.group_s(shape, rows) for shape, rows in groups)

    def learn(self, predicted_s: float, measured_s: float) -> None:
        """Correct what is predicted next by how the newest batch compares."""
        if predicted_s <= 0 or measured_s <= 0:
            return
        surprise = math.log(measured_s / predicted_s)
        surprise = min(MAX_SURPRISE, max(-MAX_SURPRISE, surprise))
        moved = self._log_correction + MEMORY * surprise
        self._log_correction = min(MAX_CORRECTION, max(-MAX_CORRECTION, moved))


def _terms(shape: Shape, rows: float) -> tuple[float, ...]:
    """What a group's seconds are a weighted sum of."""
    items = rows * shape.num_items
    kept, beams = items * shape.retention_ratio, rows * shape.beam_width
    return (1.0, rows, items, kept, beams, kept * shape.beam_width)


def _non_negative_fit(terms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The weights >= 0 with which the terms of each line come nearest to 1.

    They are the least squares of some of the terms alone, and those are few enough to try all.
    """
    columns = terms / np.maximum(np.linalg.norm(terms, axis=0), np.finfo(float).tiny)
    best, least = np.zeros(terms.shape[1]), np.inf
    for chosen in product((False, True), repeat=terms.shape[1]):
        some = np.flatnonzero(chosen)
        weights = np.linalg.lstsq(columns[:, some], np.ones(len(terms)), rcond=None)[0]
        error = float(np.square(columns[:, some] @ weights - 1).sum())
        if error < least and (weights >= 0).all():
            best, least = np.zeros(terms.shape[1]), error
            best[some] = weights
    fitted: npt.NDArray[np.float64] = best * columns[0] / terms[0]
    return fitted
