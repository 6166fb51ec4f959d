"""in_time: what is computed is in time, with less effort if need be; what cannot be is not."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.in_time import SAFETY, Batch, in_time

SETUP_S, ROW_S = 1.0, 10.0
EFFORTS = (0, 1)


@dataclass(frozen=True)
class Waiting:
    """A row that is left so many seconds."""

    left_s: float
    now_s: float

    @property
    def deadline_s(self) -> float:
        """On time.perf_counter's clock; half a second is the test's own."""
        return self.now_s + self.left_s + 0.5


def needed_s(num_rows: int, effort: int = 0) -> float:
    """What a batch takes; with less effort, half."""
    return (SETUP_S + ROW_S * num_rows) / (1 + effort)


def split(*left_s: float, efforts: Sequence[int] = (0,)) -> list[list[float]]:
    """Rows now and never, by what was left to them."""
    batch = batch_of(left_s, efforts)
    return [[row.left_s for row in rows] for rows in (batch.now, batch.never)]


def batch_of(left_s: Sequence[float], efforts: Sequence[int]) -> Batch[Waiting]:
    """What becomes of these rows; a batch never takes longer than `needed_s`."""
    now_s = time.perf_counter()
    rows = [Waiting(each, now_s) for each in left_s]
    return in_time(rows, lambda some, effort: needed_s(len(some), effort) / SAFETY, efforts)


def test_all_at_once_if_all_are_in_time() -> None:
    """The hastiest first in the list."""
    assert split(50, 41, 60, 70) == [[41, 50, 60, 70], []]


def test_who_is_late_in_any_case_is_given_up() -> None:
    """It costs the others no time."""
    assert split(5, 41, 50, 60) == [[41, 50, 60], [5]]


def test_the_last_one_is_tried() -> None:
    """Else a prediction that is wrong would never be corrected."""
    assert split(5) == [[5], []]
    assert split(1, 2, 3, 4)[0] == [4]


def test_less_effort_comes_before_giving_up() -> None:
    """As much as all can have in time."""
    assert batch_of((50, 41, 60, 70), EFFORTS).effort == 0
    assert batch_of((50, 21, 60, 70), EFFORTS).effort == 1
    assert split(50, 21, 60, 70, efforts=EFFORTS) == [[21, 50, 60, 70], []]
    assert split(50, 21, 60, 70) == [[50, 60, 70], [21]]


def test_a_long_queue_leaves_the_lesser_efforts_only() -> None:
    """Though there would be time for more."""
    assert batch_of((100, 100), (1,)).effort == 1
    assert batch_of((100, 100), (1,)).predicted_s == needed_s(2, 1) / SAFETY


@given(
    left_s=st.lists(st.integers(0, 400), min_size=1, max_size=40),
    efforts=st.sampled_from([(0,), (0, 1), (1,)]),
)
def test_every_row_is_somewhere_and_is_in_time(left_s: list[int], efforts: tuple[int]) -> None:
    """Rows computed now are in time, unless there is one only; none is lost."""
    batch = batch_of(left_s, efforts)
    now = [row.left_s for row in batch.now]

    assert sorted(row.left_s for row in (*batch.now, *batch.never)) == sorted(left_s)
    assert len(now) == 1 or min(now) + 0.5 >= needed_s(len(now), batch.effort)
    assert batch.effort in efforts
