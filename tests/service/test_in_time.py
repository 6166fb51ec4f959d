"""in_time: what is computed is in time, and what cannot be is not computed."""

import time
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.in_time import in_time

SETUP_S, ROW_S = 1.0, 10.0


@dataclass(frozen=True)
class Waiting:
    """A row that is left so many seconds."""

    left_s: float
    now_s: float

    @property
    def deadline_s(self) -> float:
        """On time.perf_counter's clock; half a second is the test's own."""
        return self.now_s + self.left_s + 0.5


def split(*left_s: float) -> list[list[float]]:
    """Rows now, later and never, by what was left to them."""
    now_s = time.perf_counter()
    rows = [Waiting(each, now_s) for each in left_s]
    *lists, _ = in_time(rows, lambda batch: SETUP_S + ROW_S * len(batch))
    return [[row.left_s for row in rows] for rows in lists]


def test_all_at_once_if_all_are_in_time() -> None:
    """No row is served better by a smaller batch."""
    assert split(50, 41, 60, 70) == [[41, 50, 60, 70], [], []]


def test_hasty_rows_go_first() -> None:
    """In half of the batch, or a quarter of it."""
    assert split(90, 22, 80, 25) == [[22, 25], [80, 90], []]
    assert split(90, 80, 25, 12) == [[12], [25, 80, 90], []]


def test_who_is_late_in_any_case_is_given_up() -> None:
    """It costs the others no time."""
    assert split(5, 41, 50, 60) == [[41, 50, 60], [], [5]]


def test_the_last_one_is_tried() -> None:
    """Else a prediction that is wrong would never be corrected."""
    assert split(5) == [[5], [], []]
    assert split(1, 2, 3, 4)[0] == [4]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40))
def test_every_row_is_somewhere_and_is_in_time(left_s: list[int]) -> None:
    """Rows computed now are in time, unless there is one only; none is lost."""
    now, later, never = split(*left_s)

    assert sorted([*now, *later, *never]) == sorted(left_s)
    assert len(now) == 1 or min(now) >= SETUP_S + ROW_S * len(now)
