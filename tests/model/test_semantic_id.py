"""SidTable: buckets, tokens and packed rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ModelError
from model.semantic_id import PAD, SEPARATOR, SidTable, vocabulary_size
from tests.factories import random_table
from tests.strategies import sid_tables


@given(table=sid_tables())
def test_every_item_is_found_through_its_leaf(table: SidTable) -> None:
    """Leaf, semantic ID and bucket agree for every item, and buckets share out all items."""
    leaves = table.leaves
    for item in range(table.num_items):
        leaf = leaves.of_item[item]
        bucket = leaves.items[leaves.offsets[leaf] : leaves.offsets[leaf + 1]]
        assert item in bucket
        assert table.sids[leaf].tolist() == table.codes[item].tolist()
    assert sorted(leaves.items.tolist()) == list(range(table.num_items))


@given(table=sid_tables())
def test_a_bucket_lists_popular_items_first(table: SidTable) -> None:
    """Inside a bucket: by popularity, then by item index."""
    leaves = table.leaves
    for start, end in zip(leaves.offsets[:-1], leaves.offsets[1:], strict=True):
        bucket = leaves.items[start:end].tolist()
        assert bucket == sorted(bucket, key=lambda item: (-table.popularity[item], item))


def test_tokens_of_different_levels_never_meet() -> None:
    """Each level has its own range of tokens behind the special ones."""
    table = SidTable(np.array([[1, 0], [0, 2]], dtype=np.int32), (2, 3), np.zeros(2, dtype=int))

    assert table.tokens_of([0, 1]).tolist() == [[4, 5], [3, 7]]
    assert table.vocabulary_size == vocabulary_size((2, 3)) == 8
    assert table.first_token(1) == 5


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), separator=st.booleans())
def test_packed_rows_hold_the_newest_items_oldest_first(
    lengths: list[int], separator: bool
) -> None:
    """A row is its newest items' tokens, then padding; the mask tells them apart."""
    table = random_table()
    histories = [list(range(length)) for length in lengths]

    tokens, mask = table.pack(histories, separator=separator, num_items=5)

    for row, history in enumerate(histories):
        expected = []
        for item in history[-5:]:
            expected += table.tokens_of(item).tolist() + [SEPARATOR] * separator
        assert tokens[row][mask[row]].tolist() == expected
        assert tokens[row][len(expected) :].tolist() == [PAD] * (tokens.shape[1] - len(expected))


@pytest.mark.parametrize(
    ("codes", "sizes", "message"),
    [
        ([[0, 3]], (2, 3), "item 0: code 3 of level 1 is outside"),
        ([[0, 1]], (2, 3, 4), "do not fit 3 codebooks"),
        ([[0, 1], [1, 1]], (2, 3), "1 popularities for 2 items"),
    ],
)
def test_codes_that_do_not_fit_are_refused(
    codes: list[list[int]], sizes: tuple[int, ...], message: str
) -> None:
    """The error names the item, the level and the range."""
    with pytest.raises(ModelError, match=message):
        SidTable(np.array(codes, dtype=np.int32), sizes, np.zeros(1, dtype=np.int64))


@given(table=sid_tables(), data=st.data())
def test_a_grown_table_is_the_table_built_anew(table: SidTable, data: st.DataObject) -> None:
    """Items put in one by one or together: the same leaves, buckets and offsets as from scratch."""
    parts = data.draw(st.lists(st.integers(1, 4), max_size=3))
    grown = SidTable(table.codes[:1], table.codebook_sizes, table.popularity[:1])
    left = slice(1, None)
    for size in parts:
        part = slice(left.start, left.start + size)
        grown = grown.grown(table.codes[part], table.popularity[part])
        left = slice(part.stop, None)
    grown = grown.grown(table.codes[left], table.popularity[left])

    for name in ("sids", "of_item", "items", "offsets"):
        found, expected = getattr(grown.leaves, name), getattr(table.leaves, name)
        assert found.tolist() == expected.tolist()
        assert found.dtype == expected.dtype
