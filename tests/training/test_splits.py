"""Leave-one-out and splits by time, against the obvious loop."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from model.errors import ModelError
from tests.training.data_folders import histories_of
from tests.training.recipes import recipe_file, run_of
from training import steps
from training.data_config import SplitConfig
from training.splits import Examples, by_time, leave_one_out, split_histories

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


@settings(deadline=None)
@given(rows=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=8))
def test_a_split_by_time_is_the_obvious_loop(rows: list[list[int]]) -> None:
    """Items are their own times here, in any order: position may disagree with time."""
    split = by_time(histories_of(*rows, timestamps=[time for row in rows for time in row]), 4, 7)

    def first(row: list[int], moment: int) -> int:
        return next((n for n, time in enumerate(row) if time >= moment), len(row))

    cuts = [(row, first(row, 4), first(row, 7)) for row in rows]
    trained = [split.train.history(user).tolist() for user in range(len(split.train))]
    assert trained == [row[:t] for row, t, _ in cuts if t]
    assert as_lists(split.valid) == [(row[:t], row[t]) for row, t, u in cuts if 0 < t < u]
    assert as_lists(split.test) == [(row[:u], row[u]) for row, _, u in cuts if 0 < u < len(row)]


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=8),
    later=st.integers(0, 99),
)
def test_training_knows_nothing_of_later_items(rows: list[list[int]], later: int) -> None:
    """Whatever is bought after the first border, the training part stays the same."""
    times = [time for row in rows for time in row]
    changed = [[later if time >= 4 else time for time in row] for row in rows]

    parts = [by_time(histories_of(*items, timestamps=times), 4, 7) for items in (rows, changed)]

    np.testing.assert_array_equal(parts[0].train.items, parts[1].train.items)
    assert parts[0].train.timestamps is not None
    assert (parts[0].train.timestamps < 4).all()
    assert all(max(history, default=0) < 7 for history, _ in as_lists(parts[0].test))


def test_borders_are_quantiles_or_days() -> None:
    """Of all interactions, or midnights UTC."""
    day = 86_400
    histories = histories_of(list(range(10)), timestamps=[n * day for n in range(10)])
    dates = {"kind": "time", "dates": ["1970-01-06", "1970-01-09"]}

    quantiles = split_histories(histories, SplitConfig(kind="time", quantiles=(0.5, 0.8)))
    days = split_histories(histories, SplitConfig.model_validate(dates))

    assert as_lists(quantiles.test) == [([0, 1, 2, 3, 4, 5, 6], 7)]
    assert as_lists(days.valid) == [([0, 1, 2, 3, 4], 5)]
    assert as_lists(days.test) == [([0, 1, 2, 3, 4, 5, 6, 7], 8)]


def test_a_recipe_splits_by_leaving_one_out_unless_it_says_otherwise() -> None:
    """No times needed."""
    split = split_histories(histories_of([1, 2, 3]), SplitConfig())

    assert as_lists(split.test) == [([1, 2], 3)]


def test_a_split_by_time_needs_times_and_users_on_both_sides() -> None:
    """The message says which part is empty, and where the borders lie."""
    config = SplitConfig(kind="time")

    with pytest.raises(ModelError, match="needs a timestamp in every interaction"):
        split_histories(histories_of([1, 2, 3]), config)
    with pytest.raises(ModelError, match="no user is left for training with borders on 1970-01-01"):
        split_histories(histories_of([1, 2, 3], timestamps=[5, 5, 5]), config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "time", "quantiles": (0.9, 0.8)}, "ascending order between 0 and 1"),
        ({"kind": "time", "dates": ("2020-01-02", "2020-01-02")}, "two days in ascending order"),
        ({"quantiles": (0.5, 0.6)}, "only read with"),
    ],
)
def test_a_contradictory_split_is_refused(settings: dict[str, object], message: str) -> None:
    """Said when the recipe is read."""
    with pytest.raises(ValidationError, match=message):
        SplitConfig.model_validate(settings)


def test_a_run_splits_as_its_recipe_says(tmp_path: Path) -> None:
    """Forty users with one item at each of the seconds 0 to 7; another split is another key."""
    path = recipe_file(tmp_path)
    run = run_of(tmp_path, path)
    steps.prepare(run)
    steps.quantize(run)
    before = run.stamp("quantize")
    by_time_table = '[split]\nkind = "time"\nquantiles = [0.55, 0.8]\n\n[quantizer]'
    path.write_text(path.read_text().replace("[quantizer]", by_time_table))
    run = run_of(tmp_path, path)

    steps.quantize(run)

    assert run.split().train.lengths.tolist() == [4] * 40
    assert run.split().test.positions.tolist() == [6] * 40
    assert run.stamp("quantize") != before
