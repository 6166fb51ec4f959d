"""Ancestry: the trie on the host, for turning sets of leaves into sets of nodes of every level.

Shape words: nodes (of one level), leaves. Small sets are ascending arrays of node numbers and cost
as much as they are long; sets over the whole catalog are marks, one byte a node.
"""

import numpy as np
import numpy.typing as npt

from model.trie import SidTrie

Ints = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float32]


class Ancestry:
    """Who is whose parent."""

    def __init__(self, trie: SidTrie) -> None:
        self._first_child = [offsets.cpu().numpy() for offsets in trie.first_child]

    def marks_above(self, leaves: Marks) -> tuple[Marks, ...]:
        """Per level, which nodes have a marked leaf below them."""
        marks = [leaves]
        for offsets in reversed(self._first_child[1:]):
            marks.append(np.logical_or.reduceat(marks[-1], offsets[:-1]))
        return tuple(reversed(marks))

    def most_below(self, leaves: Numbers) -> tuple[Numbers, ...]:
        """Per level, the largest number of any leaf below each node."""
        numbers = [leaves]
        for offsets in reversed(self._first_child[1:]):
            numbers.append(np.maximum.reduceat(numbers[-1], offsets[:-1]))
        return tuple(reversed(numbers))

    def few_most_below(
        self, leaves: Ints, numbers: Numbers, alive: tuple[Marks, ...] | None
    ) -> list[tuple[Ints, Numbers]]:
        """What `most_below` says of the nodes above a few leaves; any other leaf has 0.

        Args:
            leaves: ascending, all alive.
            numbers: of these leaves.
            alive: marks of the leaves that count, per level; None = all.

        Returns:
            per level, ascending nodes and their numbers.
        """
        found = [(leaves, numbers)]
        for level in range(len(self._first_child) - 1, 0, -1):
            nodes, numbers = found[-1]
            parents, starts, num_known = _runs(self._parents(level, nodes))
            most = np.maximum.reduceat(numbers, starts)
            others = num_known < self._num_children(level, parents, alive)
            found.append((parents, np.where(others, np.maximum(most, 0), most)))
        return found[::-1]

    def nodes_above(self, leaves: Ints) -> list[Ints]:
        """Per level, ascending nodes with one of the ascending leaves below them."""
        nodes = [leaves]
        for level in range(len(self._first_child) - 1, 0, -1):
            nodes.append(_runs(self._parents(level, nodes[-1]))[0])
        return nodes[::-1]

    def dead_nodes(self, dead_leaves: Ints, alive: tuple[Marks, ...] | None = None) -> list[Ints]:
        """Nodes without a living leaf, per level.

        Args:
            dead_leaves: distinct leaves that must not be found, ascending, alive before.
            alive: marks of what was alive before, per level; None = everything.

        Returns:
            per level, ascending nodes whose leaves alive before are all dead now.
        """
        dead = [dead_leaves]
        for level in range(len(self._first_child) - 1, 0, -1):
            if len(dead[-1]) == 0:  # nor is any above
                dead += [dead[-1]] * level
                break
            parents, _, num_dead = _runs(self._parents(level, dead[-1]))
            dead.append(parents[num_dead == self._num_children(level, parents, alive)])
        return dead[::-1]

    def update(self, marks: tuple[Marks, ...], leaf: int, alive: bool) -> list[int]:
        """Mark one leaf in place, and its ancestors accordingly; the path from level 0 down."""
        path = [leaf]
        marks[-1][leaf] = alive
        for level in range(len(self._first_child) - 1, 0, -1):
            offsets = self._first_child[level]
            parent = int(self._parents(level, np.array(path[-1:]))[0])
            below = marks[level][offsets[parent] : offsets[parent + 1]]
            marks[level - 1][parent] = bool(below.any())
            path.append(parent)
        return path[::-1]

    def _parents(self, level: int, nodes: Ints) -> Ints:
        """The parent of each node of a level."""
        offsets = self._first_child[level]
        narrow = nodes.astype(offsets.dtype)  # else all offsets would be widened
        parents: Ints = np.searchsorted(offsets, narrow, side="right").astype(np.int64) - 1
        return parents

    def _num_children(self, level: int, parents: Ints, alive: tuple[Marks, ...] | None) -> Ints:
        """How many children each parent of a level's nodes has, or living ones."""
        offsets = self._first_child[level]
        starts, ends = offsets[parents], offsets[parents + 1]
        if alive is None:
            every: Ints = (ends - starts).astype(np.int64)
            return every
        ranges = zip(starts.tolist(), ends.tolist(), strict=True)
        marks = alive[level]
        return np.array([np.count_nonzero(marks[a:b]) for a, b in ranges], dtype=np.int64)


def _runs(numbers: Ints) -> tuple[Ints, Ints, Ints]:
    """Each of the ascending numbers once, where it is first, and how often it is there."""
    is_first = np.ones(len(numbers), dtype=bool)
    np.not_equal(numbers[1:], numbers[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    return numbers[starts], starts, np.diff(starts, append=len(numbers))
