"""Growing a trie: new semantic IDs are spliced into its arrays, nothing is built again.

A node that was there before is *old*. Its *rank* is its old number; that of a new node is the
number of old nodes of its level before it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from model.splice import raise_from, spliced
from model.trie import Codes, SidTrie, widest_together


@dataclass
class _Change:
    """How many children or leaves a node had, and how many more it has now; 0 = it is new."""

    had: int
    more: int = 0


@dataclass
class _Level:
    """What happens to one level; new nodes in ascending order, numbers as they will be.

    Args:
        ranks: of new nodes.
        codes: of new nodes.
        parents: of new nodes.
        children: by parent.
        leaves: by node, leaves below it.
        newest: the prefix of the last new node.
    """

    ranks: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    children: dict[int, _Change] = field(default_factory=dict)
    leaves: dict[int, _Change] = field(default_factory=dict)
    newest: Sequence[int] = ()


def grown_trie(trie: SidTrie, added: Codes, sids: Codes) -> SidTrie:
    """The trie with further semantic IDs.

    Args:
        trie: on the CPU; stays as it is.
        added: (any number, num_levels) distinct and ascending; those it has already do no harm.
        sids: (num_leaves, num_levels), all that the new trie has.
    """
    growth = _Growth(trie)
    for sid in added.tolist():
        growth.add(sid)
    levels = growth.levels
    above = [[], *(level.ranks for level in levels[:-1])]
    first_child, codes = [], []
    for ranks_above, level, offsets, old in zip(
        above, levels, growth.first_child, growth.codes, strict=True
    ):
        longer = spliced(offsets, ranks_above, offsets[ranks_above])
        raise_from(longer, [parent + 1 for parent in level.parents])
        first_child.append(torch.from_numpy(longer))
        codes.append(torch.from_numpy(spliced(old, level.ranks, level.codes)))
    return SidTrie(
        tuple(first_child),
        tuple(codes),
        torch.from_numpy(sids),
        _all_widened(trie.most_children, (level.children for level in levels)),
        _all_widened(trie.most_leaves, (level.leaves for level in levels)),
    )


class _Growth:
    """Finds where every new node goes."""

    def __init__(self, trie: SidTrie) -> None:
        self.first_child = [offsets.numpy() for offsets in trie.first_child]
        self.codes = [codes.numpy() for codes in trie.codes]
        self.levels = [_Level() for _ in self.codes]

    def add(self, sid: Sequence[int]) -> None:
        """Walk down one semantic ID; greater than those before."""
        path: list[tuple[int, int]] = []  # of each level, its node and the leaves it had
        parent, above, is_new = 0, 0, False
        for number, (level, code) in enumerate(zip(self.levels, sid, strict=True)):
            num_siblings = 0 if is_new else self._num_children(number, above)
            rank = int(self.first_child[number][above])
            if not is_new:
                siblings = self.codes[number][rank : rank + num_siblings]
                place = int(np.searchsorted(siblings, code))
                is_new = place == num_siblings or siblings[place] != code
                rank += place
            if is_new and level.newest != sid[: number + 1]:
                level.ranks.append(rank)
                level.codes.append(code)
                level.parents.append(parent)
                level.newest = sid[: number + 1]
                level.children.setdefault(parent, _Change(num_siblings)).more += 1
            parent, above = rank + len(level.ranks) - is_new, rank
            path.append((parent, 0 if is_new else self._num_leaves(number, rank)))
        for level, (node, had) in zip(self.levels, path, strict=True):
            level.leaves.setdefault(node, _Change(had)).more += is_new

    def _num_children(self, level: int, parent: int) -> int:
        offsets = self.first_child[level]
        return int(offsets[parent + 1] - offsets[parent])

    def _num_leaves(self, level: int, node: int) -> int:
        start, end = node, node + 1
        for offsets in self.first_child[level + 1 :]:
            start, end = int(offsets[start]), int(offsets[end])
        return end - start


def _all_widened(
    of_levels: Sequence[npt.NDArray[np.int64]], changes: Iterable[dict[int, _Change]]
) -> tuple[npt.NDArray[np.int64], ...]:
    """Of every level; see `_widened`."""
    pairs = zip(of_levels, changes, strict=True)
    return tuple(_widened(most, list(changed.values())) for most, changed in pairs)


def _widened(most: npt.NDArray[np.int64], changes: list[_Change]) -> npt.NDArray[np.int64]:
    """What `widest_together` would make of all counts after they changed.

    Only the largest counts are known, which is enough as counts only grow: what is among them
    afterwards was so before, or has changed.
    """
    counts = Counter(np.diff(most, prepend=0).tolist())
    for change in changes:
        counts[change.had] -= counts[change.had] > 0
    counts.update(change.had + change.more for change in changes)
    return widest_together(np.array(list(counts.elements()), dtype=np.int64))
