"""Metrics, against a loop over the definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.metrics import (
    bootstrap_interval,
    coverage_at_k,
    ndcg_at_k,
    ranks_in_lists,
    recall_at_k,
)

LISTS = st.integers(1, 6).flatmap(
    lambda limit: st.lists(
        st.tuples(st.permutations(range(8)).map(lambda items: items[:limit]), st.integers(0, 7)),
        min_size=1,
        max_size=6,
    )
)


@settings(deadline=None)
@given(users=LISTS, k=st.integers(1, 9))
def test_recall_and_ndcg_are_their_definitions(users: list[tuple[list[int], int]], k: int) -> None:
    """Hit or not among the first k; a hit at place p is worth 1 / log2(p + 1)."""
    ranks = ranks_in_lists(np.array([row for row, _ in users]), np.array([t for _, t in users]))

    places = [row[:k].index(target) + 1 if target in row[:k] else None for row, target in users]
    recall = [0.0 if place is None else 1.0 for place in places]
    gain = [0.0 if place is None else 1 / math.log2(place + 1) for place in places]
    np.testing.assert_array_equal(recall_at_k(ranks, k), recall)
    np.testing.assert_allclose(ndcg_at_k(ranks, k), gain, rtol=1e-12)


@settings(deadline=None)
@given(users=LISTS, k=st.integers(1, 9))
def test_coverage_is_the_share_of_items_shown(users: list[tuple[list[int], int]], k: int) -> None:
    """Items beyond k do not count."""
    recommended = np.array([row for row, _ in users])

    shown = {item for row, _ in users for item in row[:k]}

    assert coverage_at_k(recommended, 8, k) == len(shown) / 8


def test_places_left_empty_are_no_items() -> None:
    """-1 fills a short list: neither a hit nor coverage."""
    recommended = np.array([[2, -1, -1]])

    assert ranks_in_lists(recommended, np.array([1])).tolist() == [math.inf]
    assert coverage_at_k(recommended, 4, 3) == 0.25


def test_empty_lists_hit_nothing() -> None:
    """A limit of 0 is a list nobody is in."""
    assert ranks_in_lists(np.empty((1, 0), dtype=np.int64), np.array([1])).tolist() == [math.inf]


def test_a_shared_last_place_counts() -> None:
    """Tied for the places 10 and 11 is a hit at 10, tied for 10 to 12 is not."""
    assert recall_at_k(np.array([10.5, 11.0]), 10).tolist() == [1.0, 0.0]


def test_the_interval_holds_the_mean_and_narrows_with_users() -> None:
    """About two standard errors to each side."""
    values = np.tile([0.0, 1.0], 500)

    low, high = bootstrap_interval(values, np.random.default_rng(0))

    error = 0.5 / math.sqrt(len(values))
    assert low == pytest.approx(0.5 - 1.96 * error, abs=0.006)
    assert high == pytest.approx(0.5 + 1.96 * error, abs=0.006)


def test_the_interval_depends_on_nothing_but_the_generator() -> None:
    """Same seed, same interval, also when the samples are drawn in blocks."""
    values = np.random.default_rng(1).random(5_000)

    intervals = [
        bootstrap_interval(values, np.random.default_rng(7), num_samples=900) for _ in range(2)
    ]

    assert intervals[0] == intervals[1]
