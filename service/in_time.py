"""Which rows to compute now, and with what effort, so that what is computed is in time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

SAFETY = 1.15
"""What a batch may take longer than predicted and be in time all the same."""


class Row(Protocol):
    """What is looked at."""

    @property
    def deadline_s(self) -> float:
        """On time.perf_counter's clock."""
        ...


RowT = TypeVar("RowT", bound=Row)


@dataclass(frozen=True)
class Batch(Generic[RowT]):
    """What becomes of some rows.

    Args:
        now: compute these.
        never: these would be too late.
        effort: with which to compute.
        predicted_s: what that takes.
    """

    now: Sequence[RowT]
    never: Sequence[RowT]
    effort: int
    predicted_s: float


def in_time(
    rows: Sequence[RowT], batch_s: Callable[[Sequence[RowT], int], float], efforts: Sequence[int]
) -> Batch[RowT]:
    """Split rows into those to compute now and never, as they would be too late.

    With less effort, if only that is in time for all. Who is not helped by it is given up: a
    smaller batch for the hasty costs more a row, and makes those late who wait behind it. The last
    one is always tried: a prediction may be wrong.

    Args:
        rows: that fit into a batch, at least one.
        batch_s: predicted seconds of a batch with an effort.
        efforts: that may be tried, the greatest first; at least one.
    """
    never: list[RowT] = []
    left = sorted(rows, key=lambda row: row.deadline_s)
    while True:
        left_s = left[0].deadline_s - time.perf_counter()
        for effort in efforts:
            predicted_s = batch_s(left, effort)
            if SAFETY * predicted_s <= left_s:
                return Batch(left, never, effort, predicted_s)
        least_s = batch_s(left, efforts[-1])
        if len(left) == 1:
            return Batch(left, never, efforts[-1], least_s)
        too_late_s = time.perf_counter() + least_s
        num_late = sum(row.deadline_s < too_late_s for row in left)
        num_late = num_late if 0 < num_late < len(left) else (len(left) + 1) // 2
        never, left = never + left[:num_late], left[num_late:]
