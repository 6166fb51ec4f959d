"""SidTrie and Exclusions against plain sets of prefixes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.semantic_id import SidTable
from model.trie import NO_NODE, Exclusions, SidTrie, TrieAncestry
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
        nodes, exists = trie.children(level, torch.arange(len(parents))[None])
        found = [
            [prefixes(table, level)[node] for node in row[real].tolist()]
            for row, real in zip(nodes[0], exists[0], strict=True)
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


@given(table=sid_tables(), data=st.data())
def test_a_node_is_dead_when_all_its_leaves_are(table: SidTable, data: st.DataObject) -> None:
    """Dead leaves close exactly the prefixes without a living leaf."""
    leaves = range(len(table.sids))
    dead = sorted(data.draw(st.sets(st.sampled_from(leaves))))
    ancestry = TrieAncestry(SidTrie.from_sids(table.sids))

    found = ancestry.dead_nodes(np.array(dead, dtype=np.int64))

    sids = [tuple(sid) for sid in table.sids.tolist()]
    living = [sid for leaf, sid in enumerate(sids) if leaf not in dead]
    for level, nodes in enumerate(found):
        alive = {sid[: level + 1] for sid in living}
        expected = [n for n, prefix in enumerate(prefixes(table, level)) if prefix not in alive]
        assert nodes.tolist() == expected


def test_exclusions_differ_by_row() -> None:
    """Each row of a batch closes its own nodes and nobody else's."""
    rows = [[np.array([0, 2])], [np.array([], dtype=np.int64)]]
    exclusions = Exclusions.from_rows(rows, num_levels=1)

    found = exclusions.contain(0, torch.tensor([[[0, 1, 2]], [[0, 1, 2]]]))

    assert found is not None
    assert found.tolist() == [[[True, False, True]], [[False, False, False]]]
    assert exclusions.nodes[0].tolist() == [[0, 2], [NO_NODE, NO_NODE]]


def test_a_level_without_exclusions_costs_nothing() -> None:
    """No row excludes anything: there is no mask to apply."""
    exclusions = Exclusions.from_rows([[np.array([], dtype=np.int64)]], num_levels=1)

    assert exclusions.contain(0, torch.zeros(1, 1, 1, dtype=torch.int64)) is None


def test_an_empty_catalog_has_no_trie() -> None:
    """There is nothing to search in."""
    with pytest.raises(ValueError, match="at least one"):
        SidTrie.from_sids(np.zeros((0, 3), dtype=np.int32))
