"""Windows and their batches against loops over histories."""

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import random_table, tiny_config
from tests.training.data_folders import histories_of
from training.windows import Batch, BatchStream, Windows

ROWS = st.lists(
    st.lists(st.integers(0, 39), min_size=0, max_size=15), min_size=1, max_size=6
).filter(lambda rows: any(len(row) > 1 for row in rows))


def windows_of(rows: list[list[int]], num_future_items: int = 2) -> Windows:
    """Windows over the items of random_table, at most 12 items long."""
    return Windows(histories_of(*rows), random_table(), tiny_config(), num_future_items)


@given(rows=ROWS)
def test_every_position_with_a_past_is_one_window(rows: list[list[int]]) -> None:
    """It reads what its user saw before, cut to the model's length; targets end with the user."""
    windows = windows_of(rows)
    table = random_table()
    expected = [
        (row[max(0, t - 12) : t], row[t : t + 3]) for row in rows for t in range(1, len(row))
    ]

    batch = windows.batch(np.arange(len(windows)))

    assert len(windows) == len(expected)
    for n, (history, targets) in enumerate(expected):
        tokens = batch.tokens[n][batch.mask[n]].tolist()
        assert tokens == table.item_tokens[history].reshape(-1).tolist()
        assert batch.exists[n].tolist() == [step < len(targets) for step in range(3)]
        found = batch.targets[n][batch.exists[n]].tolist()
        assert found == table.codes[targets].tolist()


@given(rows=ROWS, budget=st.integers(1, 200), epoch=st.integers(0, 3))
def test_an_epoch_shows_every_window_once_within_the_budget(
    rows: list[list[int]], budget: int, epoch: int
) -> None:
    """Batches partition the windows; a batch is over budget only if it is a single window."""
    windows = windows_of(rows)

    plan = BatchStream(windows, budget, seed=1).plan(epoch)

    assert sorted(np.concatenate(plan).tolist()) == list(range(len(windows)))
    for batch in plan:
        padded = len(batch) * int(windows.lengths[batch].max()) * 3
        assert padded <= budget or len(batch) == 1


def test_windows_of_like_lengths_share_a_batch() -> None:
    """On skewed histories at most a tenth of the tokens is padding."""
    random = np.random.default_rng(0)
    rows = [random.integers(0, 40, random.integers(2, 15)).tolist() for _ in range(400)]

    batches = list(islice(BatchStream(windows_of(rows), 900, seed=0), 40))

    real = sum(int(batch.mask.sum()) for batch in batches)
    padded = sum(batch.mask.numel() for batch in batches)
    assert real / padded > 0.9


@given(first_step=st.integers(0, 30))
def test_a_stream_started_late_goes_on_like_one_started_early(first_step: int) -> None:
    """Step s has the same batch wherever the stream began, across epochs."""
    windows = windows_of([[1, 2, 3, 4, 5, 6, 7], [8, 9, 10]])

    early = list(islice(BatchStream(windows, 20, seed=3), first_step, first_step + 4))
    late = list(islice(BatchStream(windows, 20, seed=3, first_step=first_step), 4))

    for one, other in zip(early, late, strict=True):
        assert_same(one, other)


def assert_same(one: Batch, other: Batch) -> None:
    """Equal, tensor by tensor."""
    assert all(a.equal(b) for a, b in zip(one, other, strict=True))


def test_epochs_and_seeds_differ_in_order() -> None:
    """The order is shuffled anew every epoch, and by every seed."""
    windows = windows_of([list(range(30))])
    stream, other = BatchStream(windows, 20, seed=0), BatchStream(windows, 20, seed=1)

    orders = {str(plan) for plan in (stream.plan(0), stream.plan(1), other.plan(0))}

    assert len(orders) == 3
    assert str(stream.plan(0)) == str(BatchStream(windows, 20, seed=0).plan(0))
