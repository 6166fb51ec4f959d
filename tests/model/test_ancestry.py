"""Ancestry against plain sets of prefixes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.ancestry import Ancestry
from model.semantic_id import SidTable
from model.trie import SidTrie
from tests.strategies import sid_tables

Prefix = tuple[int, ...]


def prefixes(table: SidTable, level: int) -> list[Prefix]:
    """The distinct prefixes of level + 1 codes, ascending: the trie's nodes, the slow way."""
    return sorted({tuple(sid[: level + 1]) for sid in table.sids.tolist()})


def draw_leaves(data: st.DataObject, table: SidTable) -> list[int]:
    """Any leaves, ascending."""
    return sorted(data.draw(st.sets(st.sampled_from(range(len(table.sids))))))


@given(table=sid_tables(), data=st.data())
def test_a_node_is_dead_when_all_its_leaves_are(table: SidTable, data: st.DataObject) -> None:
    """Dead leaves close exactly the prefixes without a living leaf."""
    leaves = range(len(table.sids))
    dead = sorted(data.draw(st.sets(st.sampled_from(leaves))))
    ancestry = Ancestry(SidTrie.from_sids(table.sids))

    found = ancestry.dead_nodes(np.array(dead, dtype=np.int64))

    sids = [tuple(sid) for sid in table.sids.tolist()]
    living = [sid for leaf, sid in enumerate(sids) if leaf not in dead]
    for level, nodes in enumerate(found):
        alive = {sid[: level + 1] for sid in living}
        expected = [n for n, prefix in enumerate(prefixes(table, level)) if prefix not in alive]
        assert nodes.tolist() == expected


@given(table=sid_tables(), data=st.data())
def test_a_node_of_a_part_is_dead_when_its_leaves_in_that_part_are(
    table: SidTable, data: st.DataObject
) -> None:
    """Where only some leaves were alive before, only those count."""
    before = draw_leaves(data, table)
    dead = [leaf for leaf in draw_leaves(data, table) if leaf in before]
    ancestry = Ancestry(SidTrie.from_sids(table.sids))
    alive = ancestry.marks_above(np.isin(np.arange(len(table.sids)), before))

    found = ancestry.dead_nodes(np.array(dead, dtype=np.int64), alive)

    sids = [tuple(sid) for sid in table.sids.tolist()]
    for level, nodes in enumerate(found):
        was = {sids[leaf][: level + 1] for leaf in before}
        now = {sids[leaf][: level + 1] for leaf in before if leaf not in dead}
        expected = [n for n, prefix in enumerate(prefixes(table, level)) if prefix in was - now]
        assert nodes.tolist() == expected


@given(table=sid_tables(), data=st.data())
def test_nodes_above_leaves_are_their_prefixes(table: SidTable, data: st.DataObject) -> None:
    """As numbers for few leaves, as marks for many: the same nodes."""
    leaves = draw_leaves(data, table)
    ancestry = Ancestry(SidTrie.from_sids(table.sids))

    few = ancestry.nodes_above(np.array(leaves, dtype=np.int64))
    many = ancestry.marks_above(np.isin(np.arange(len(table.sids)), leaves))

    for level in range(table.num_levels):
        wanted = {tuple(table.sids[leaf, : level + 1].tolist()) for leaf in leaves}
        expected = [n for n, prefix in enumerate(prefixes(table, level)) if prefix in wanted]
        assert few[level].tolist() == expected
        assert np.flatnonzero(many[level]).tolist() == expected


@given(table=sid_tables(), data=st.data())
def test_a_node_knows_the_most_below_it(table: SidTable, data: st.DataObject) -> None:
    """A prefix's number is the largest of its leaves'."""
    number = st.integers(-9, 9)
    numbers = data.draw(st.lists(number, min_size=len(table.sids), max_size=len(table.sids)))
    ancestry = Ancestry(SidTrie.from_sids(table.sids))

    found = ancestry.most_below(np.array(numbers, dtype=np.float32))

    sids = [tuple(sid) for sid in table.sids.tolist()]
    for level in range(table.num_levels):
        assert found[level].tolist() == [
            max(n for n, sid in zip(numbers, sids, strict=True) if sid[: level + 1] == prefix)
            for prefix in prefixes(table, level)
        ]


@given(table=sid_tables(), data=st.data())
def test_marks_changed_leaf_by_leaf_are_marks_made_anew(
    table: SidTable, data: st.DataObject
) -> None:
    """Leaves that die and live again leave every level as if it had just been made."""
    ancestry = Ancestry(SidTrie.from_sids(table.sids))
    alive = np.ones(len(table.sids), dtype=bool)
    marks = ancestry.marks_above(alive.copy())
    changes = data.draw(st.lists(st.tuples(st.sampled_from(range(len(alive))), st.booleans())))

    for leaf, lives in changes:
        alive[leaf] = lives
        ancestry.update(marks, leaf, lives)

    for found, expected in zip(marks, ancestry.marks_above(alive), strict=True):
        assert found.tolist() == expected.tolist()


@given(table=sid_tables(), data=st.data())
def test_a_few_numbers_say_what_numbers_of_all_leaves_say(
    table: SidTable, data: st.DataObject
) -> None:
    """Where all other leaves have 0, and only some are alive."""
    alive = draw_leaves(data, table)
    few = [leaf for leaf in draw_leaves(data, table) if leaf in alive]
    numbers = np.array(
        data.draw(st.lists(st.integers(-3, 3), min_size=len(few), max_size=len(few)))
    )
    ancestry = Ancestry(SidTrie.from_sids(table.sids))
    marks = ancestry.marks_above(np.isin(np.arange(len(table.sids)), alive))
    of_all = np.where(marks[-1], 0, -np.inf).astype(np.float32)
    of_all[few] = numbers

    found = ancestry.few_most_below(
        np.array(few, dtype=np.int64), numbers.astype(np.float32), marks
    )

    for (nodes, most), expected in zip(found, ancestry.most_below(of_all), strict=True):
        untouched = np.delete(expected, nodes)
        np.testing.assert_array_equal(most, expected[nodes])
        assert set(untouched.tolist()) <= {0, -np.inf}
