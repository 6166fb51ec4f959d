"""A trie that has grown against one that is built anew."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.semantic_id import SidTable
from model.trie import MAX_COUNTED, SidTrie
from model.trie_growth import grown_trie
from tests.strategies import sid_tables


def assert_equal(found: SidTrie, expected: SidTrie) -> None:
    """Every array, type included."""
    tensors, others = found.to_tensors(), expected.to_tensors()
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == others[name].dtype, name
        np.testing.assert_array_equal(tensor, others[name], err_msg=name)


@given(table=sid_tables(), data=st.data())
def test_a_trie_grows_into_what_would_be_built(table: SidTable, data: st.DataObject) -> None:
    """Whatever comes, known or new, all at once or bit by bit."""
    sizes = table.codebook_sizes
    sid = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    trie, sids = SidTrie.from_sids(table.sids), table.sids
    for group in data.draw(st.lists(st.lists(sid, min_size=1, max_size=5), max_size=3)):
        added = np.unique(np.array(group, dtype=np.int32), axis=0)
        sids = np.unique(np.concatenate((sids, added)), axis=0)
        trie = grown_trie(trie, added, sids)

    assert_equal(trie, SidTrie.from_sids(sids))


def test_more_nodes_than_are_counted_grow_as_well() -> None:
    """Only the widest are known; what is added below others may or may not join them."""
    random = np.random.default_rng(0)
    sids = np.unique(random.integers(0, 90, (20_000, 3), dtype=np.int32), axis=0)
    trie = SidTrie.from_sids(sids)
    for seed in range(4):
        low = 40 if seed % 2 else 0
        added = np.random.default_rng(seed).integers(low, 90, (3_000, 3), dtype=np.int32)
        added = np.unique(added, axis=0)
        sids = np.unique(np.concatenate((sids, added)), axis=0)
        trie = grown_trie(trie, added, sids)

    assert len(trie.most_leaves[1]) == MAX_COUNTED
    assert_equal(trie, SidTrie.from_sids(sids))
