"""Leave-one-out, against the obvious loop."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.data_folders import histories_of
from training.splits import Examples, leave_one_out

ROWS = st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=6), min_size=1, max_size=8)


def as_lists(examples: Examples) -> list[tuple[list[int], int]]:
    """(history, target) pairs as plain lists."""
    return [(history.tolist(), target) for history, target in examples.pairs()]


@settings(deadline=None)
@given(rows=ROWS)
def test_leave_one_out_is_the_obvious_loop(rows: list[list[int]]) -> None:
    """Last tests, second last validates, the rest trains; short users only train."""
    split = leave_one_out(histories_of(*rows))

    long = [row for row in rows if len(row) >= 3]
    assert as_lists(split.test) == [(row[:-1], row[-1]) for row in long]
    assert as_lists(split.valid) == [(row[:-2], row[-2]) for row in long]
    trained = [split.train.history(user).tolist() for user in range(len(rows))]
    assert trained == [row[:-2] if len(row) >= 3 else row for row in rows]
    assert len(split.test) == len(long)


@settings(deadline=None)
@given(rows=ROWS)
def test_histories_of_examples_are_those_of_the_pairs(rows: list[list[int]]) -> None:
    """The flat form and the single views agree, also for a part of the examples."""
    part = leave_one_out(histories_of(*rows)).test
    part = part.take(np.arange(len(part)) % 2 == 0)

    flat = part.histories()

    found = [flat.history(example).tolist() for example in range(len(part))]
    assert found == [history for history, _ in as_lists(part)]


def test_times_go_where_their_items_go() -> None:
    """In training histories and in examples; user ids too."""
    histories = histories_of([1], [1, 2, 3, 4], timestamps=[9, 10, 20, 30, 40])

    split = leave_one_out(histories)

    assert split.train.timestamps is not None
    assert split.train.timestamps.tolist() == [9, 10, 20]
    tested = split.test.histories()
    assert tested.timestamps is not None
    assert tested.timestamps.tolist() == [10, 20, 30]
    assert tested.user_ids == ["1"]


def test_same_day_steps_are_told_apart() -> None:
    """By the day (UTC) of the target and of the item before it; unknown without times."""
    day = 86_400
    rows = ([1, 2, 3], [1, 2, 3])
    times = [0, day - 2, day - 1, 0, day - 1, day]

    same = leave_one_out(histories_of(*rows, timestamps=times)).test.same_day()

    assert same is not None
    assert same.tolist() == [True, False]
    assert leave_one_out(histories_of(*rows)).test.same_day() is None
