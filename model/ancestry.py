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

    def nodes_above(self, leaves: Ints) -> list[Ints]:
        """Per level, ascending nodes with one of the ascending leaves below them."""
        nodes = [leaves]
        for offsets in reversed(self._first_child[1:]):
            nodes.append(np.unique(_parents(offsets, nodes[-1])))
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
        levels = range(len(self._first_child) - 1, 0, -1)
        for level in levels:
            offsets = self._first_child[level]
            candidates, num_dead = np.unique(_parents(offsets, dead[-1]), return_counts=True)
            num_alive = offsets[candidates + 1] - offsets[candidates]
            if alive is not None:
                num_alive = _count(alive[level], offsets, candidates)
            dead.append(candidates[num_dead == num_alive])
        return dead[::-1]

    def update(self, marks: tuple[Marks, ...], leaf: int, alive: bool) -> list[int]:
        """Mark one leaf in place, and its ancestors accordingly; the path from level 0 down."""
        path = [leaf]
        marks[-1][leaf] = alive
        for level in range(len(self._first_child) - 1, 0, -1):
            offsets = self._first_child[level]
            parent = int(_parents(offsets, np.array(path[-1:]))[0])
            below = marks[level][offsets[parent] : offsets[parent + 1]]
            marks[level - 1][parent] = bool(below.any())
            path.append(parent)
        return path[::-1]


def _parents(offsets: npt.NDArray[np.int32], nodes: Ints) -> Ints:
    """The parent of each node, given its level's first_child."""
    narrow = nodes.astype(offsets.dtype)  # else all offsets would be widened
    return np.searchsorted(offsets, narrow, side="right").astype(np.int64) - 1


def _count(marks: Marks, offsets: npt.NDArray[np.int32], parents: Ints) -> Ints:
    """How many children of each parent are marked."""
    ranges = zip(offsets[parents].tolist(), offsets[parents + 1].tolist(), strict=True)
    return np.array([np.count_nonzero(marks[start:end]) for start, end in ranges], dtype=np.int64)
