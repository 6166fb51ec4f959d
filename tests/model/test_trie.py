"""SidTrie against plain sets of prefixes."""

import numpy as np
import pytest
import torch
from hypothesis import given

from model.semantic_id import SidTable
from model.trie import SidTrie
from tests.strategies import sid_tables


def prefixes(table: SidTable, level: int) -> list[tuple[int, ...]]:
    """The distinct prefixes of level + 1 codes, ascending: the trie's nodes, the slow way."""
    return sorted({tuple(sid[: level + 1]) for sid in table.sids.tolist()})


@given(table=sid_tables())
def test_children_are_the_prefixes_that_extend_a_prefix(table: SidTable) -> None:
    """Every node of every level has exactly the children that a set of prefixes gives it."""
    trie = SidTrie.from_sids(table.sids)

    for level in range(table.num_levels):
        parents = prefixes(table, level - 1) if level else [()]
        children = trie.children(level, torch.arange(len(parents))[None])
        found = [
            [
                prefixes(table, level)[node]
                for node in children.nodes[children.exists & (children.owners == owner)].tolist()
            ]
            for owner in range(len(parents))
        ]
        assert found == [
            [prefix for prefix in prefixes(table, level) if prefix[:-1] == parent]
            for parent in parents
        ]


@given(table=sid_tables())
def test_a_node_knows_its_last_code(table: SidTable) -> None:
    """codes[level][node] is the last code of the node's prefix."""
    trie = SidTrie.from_sids(table.sids)

    found = [codes.tolist() for codes in trie.codes]

    levels = range(table.num_levels)
    assert found == [[prefix[-1] for prefix in prefixes(table, level)] for level in levels]


def test_an_empty_catalog_has_no_trie() -> None:
    """There is nothing to search in."""
    with pytest.raises(ValueError, match="at least one"):
        SidTrie.from_sids(np.zeros((0, 3), dtype=np.int32))
