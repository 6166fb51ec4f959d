"""Sorting semantic IDs as packed numbers against numpy's sort of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.semantic_id import SidTable
from model.sid_sort import distinct, sort_codes, stable_order
from tests.strategies import sid_tables

LARGE = st.sampled_from([1, 7, 2048, 2**31 - 1])


@st.composite
def large_codebooks(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...]]:
    """Codes that need several passes; few distinct ones, so that semantic IDs repeat."""
    sizes = tuple(draw(st.lists(LARGE, min_size=1, max_size=9)))
    few = [st.sampled_from([0, size // 2, size - 1]) for size in sizes]
    rows = draw(st.lists(st.tuples(*few), max_size=30))
    return np.array(rows, dtype=np.int32).reshape(len(rows), len(sizes)), sizes


@given(table=sid_tables())
def test_items_are_sorted_by_semantic_id_and_then_by_index(table: SidTable) -> None:
    """The same order as a sort by columns, the first level deciding first."""
    order = sort_codes(table.codes, table.codebook_sizes)

    assert order.tolist() == np.lexsort(table.codes.T[::-1]).tolist()


@given(given_codes=large_codebooks())
def test_levels_that_do_not_fit_into_one_number_are_sorted_as_well(
    given_codes: tuple[np.ndarray, tuple[int, ...]],
) -> None:
    """Up to nine codebooks of 2^31 codes, among small ones."""
    codes, sizes = given_codes

    order = sort_codes(codes, sizes)

    assert order.tolist() == np.lexsort(codes.T[::-1]).tolist()


@given(table=sid_tables())
def test_equal_semantic_ids_stay_in_the_order_given(table: SidTable) -> None:
    """With the popular first, buckets are in the order that answers need."""
    popular_first = np.argsort(-table.popularity, kind="stable")

    order = sort_codes(table.codes, table.codebook_sizes, popular_first)

    assert order.tolist() == table.leaves.items.tolist()


@given(given_codes=large_codebooks())
def test_equal_semantic_ids_of_many_levels_stay_in_the_order_given(
    given_codes: tuple[np.ndarray, tuple[int, ...]],
) -> None:
    """Sorting in several steps keeps the order given, here the newest item first."""
    codes, sizes = given_codes
    newest_first = np.arange(len(codes))[::-1]

    order = sort_codes(codes, sizes, newest_first)

    assert order.tolist() == np.lexsort((-np.arange(len(codes)), *codes.T[::-1])).tolist()


@given(given_codes=large_codebooks())
def test_runs_of_equal_semantic_ids_are_the_distinct_ones(
    given_codes: tuple[np.ndarray, tuple[int, ...]],
) -> None:
    """Their first items, and the run that each item is in, are what numpy's unique finds."""
    codes, sizes = given_codes
    order = sort_codes(codes, sizes)

    starts = distinct(codes, order)

    run_of_item = np.empty(len(codes), dtype=np.int64)
    run_of_item[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(codes))))
    sids, inverse = np.unique(codes, axis=0, return_inverse=True)
    assert codes[order[starts]].tolist() == sids.tolist()
    assert run_of_item.tolist() == inverse.reshape(-1).tolist()


@pytest.mark.parametrize("num_keys", [8, 2**62])
def test_keys_of_any_size_keep_their_ties_in_order(num_keys: int) -> None:
    """Packed with their places or not, equal keys stay as they were."""
    keys = np.array([5, 0, 5, 7, 0], dtype=np.int64)

    assert stable_order(keys, num_keys).tolist() == [1, 4, 0, 2, 3]
    assert stable_order(keys, num_keys, np.array([4, 3, 2, 1, 0])).tolist() == [4, 1, 2, 0, 3]


def test_no_items_are_sorted_already() -> None:
    """An empty catalog has an empty order, and no distinct semantic ID."""
    codes = np.zeros((0, 3), dtype=np.int32)

    order = sort_codes(codes, (2, 2, 2))

    assert (len(order), len(distinct(codes, order))) == (0, 0)
