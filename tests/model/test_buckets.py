"""Buckets: what histories and batches are padded to."""

from hypothesis import given
from hypothesis import strategies as st

from model.buckets import Buckets, Graphs, padded
from model.queries import Shape

GRAPHS = Graphs((1, 4, 16), beam_width=20)


def test_lengths_are_powers_of_two_and_the_steps_between() -> None:
    """Up to the longest history that the model reads, which is always one."""
    assert Buckets.many(20).lengths == (1, 2, 3, 4, 6, 8, 12, 16, 20)
    assert Buckets.many(1).lengths == (1,)


def test_with_graphs_there_are_three_lengths() -> None:
    """Fewer where the model reads only a few items."""
    assert Buckets.few(20, GRAPHS, 0.5).lengths == (5, 10, 20)
    assert Buckets.few(3, GRAPHS, 0.5).lengths == (1, 3)
    assert Buckets.few(1, GRAPHS, 0.5).lengths == (1,)


@given(max_items=st.integers(1, 300), num_items=st.integers(1, 400))
def test_a_history_gets_the_next_length(max_items: int, num_items: int) -> None:
    """The longest takes all that are longer."""
    for buckets in (Buckets.many(max_items), Buckets.few(max_items, GRAPHS, 1.0)):
        fitting = [length for length in buckets.lengths if length >= num_items]
        assert buckets.length(num_items) == (min(fitting) if fitting else max_items)


@given(rows=st.integers(1, 40))
def test_a_batch_is_at_most_doubled(rows: int) -> None:
    """And padded to no other than one of the sizes."""
    size = padded(rows, GRAPHS.batch_sizes)

    assert rows <= size <= 2 * rows
    assert size == rows or size in GRAPHS.batch_sizes
    assert size == 16 or not 8 <= rows <= 16


def test_only_batches_that_have_graphs_are_padded() -> None:
    """Of the beam width and the retention ratio that graphs are made for."""
    buckets = Buckets.few(20, GRAPHS, 0.5)

    assert buckets.rows(3, Shape(10, 20, 0.5)) == 4
    assert buckets.rows(3, Shape(10, 20, 0.5, exact=True)) == 4
    assert buckets.rows(3, Shape(10, 50, 0.5)) == 3
    assert buckets.rows(3, Shape(10, 20, 1.0)) == 3
    assert Buckets.many(20).rows(3, Shape(10, 20, 0.5)) == 3
