"""Which rows to compute now, so that what is computed is in time."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Row(Protocol):
    """What is looked at."""

    @property
    def deadline_s(self) -> float:
        """On time.perf_counter's clock."""
        ...


RowT = TypeVar("RowT", bound=Row)


def in_time(
    rows: Sequence[RowT], batch_s: Callable[[Sequence[RowT]], float]
) -> tuple[list[RowT], list[RowT], list[RowT], float]:
    """Split rows into those to compute now, later, and never, as they would be too late.

    All at once if that is in time for all; else the hasty ones first in a smaller batch; but not
    smaller than a quarter, for small batches cost more a row and make others late. Who is not
    helped by that is given up. The last one is always tried: a prediction may be wrong.

    Args:
        rows: that fit into a batch, at least one.
        batch_s: predicted seconds of a batch.

    Returns:
        the three lists, and the predicted seconds of the first.
    """
    late: list[RowT] = []
    smallest = max(1, len(rows) // 4)
    left = sorted(rows, key=lambda row: row.deadline_s)
    while True:
        now_s = time.perf_counter()
        whole_s = batch_s(left)
        if len(left) == 1 or now_s + whole_s <= left[0].deadline_s:
            return left, [], late, whole_s
        for size in (len(left) // 2, len(left) // 4):
            if size < smallest:
                break
            predicted_s = batch_s(left[:size])
            if now_s + predicted_s <= left[0].deadline_s:
                return left[:size], left[size:], late, predicted_s
        num_late = sum(row.deadline_s < now_s + whole_s for row in left)
        num_late = num_late if num_late < len(left) else (len(left) + 1) // 2
        late, left = late + left[:num_late], left[num_late:]
