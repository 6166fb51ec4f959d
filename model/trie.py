"""SidTrie: which codes may follow a prefix, as arrays per level (compressed sparse rows).

Nodes of level l are the distinct prefixes of l + 1 codes in ascending order, numbered from 0; the
nodes of the last level are the leaves. Children of one node are therefore neighbours, and a lower
node number means a smaller semantic ID. Shape words: batch, beams, children.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NO_NODE = np.iinfo(np.int32).max


@dataclass(frozen=True)
class SidTrie:
    """The semantic IDs that exist.

    Args:
        first_child: per level, (nodes of the level above + 1,) int32; node p of the level above
            owns the nodes first_child[p] : first_child[p + 1]. The level above level 0 is the root.
        codes: per level, (nodes,) int32, the last code of each prefix.
        max_children: per level, how many children its widest parent has.
    """

    first_child: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]
    max_children: tuple[int, ...]

    @classmethod
    def from_sids(cls, sids: npt.NDArray[np.int32]) -> "SidTrie":
        """Build from (num_leaves, num_levels) distinct semantic IDs in ascending order."""
        if len(sids) == 0:
            raise ValueError("a trie needs at least one semantic ID")
        num_leaves, num_levels = sids.shape
        first_child: list[Tensor] = []
        codes: list[Tensor] = []
        widest: list[int] = []
        is_new = np.zeros(num_leaves, dtype=bool)
        is_new[0] = True
        parent_starts = np.zeros(1, dtype=np.int64)
        for level in range(num_levels):
            is_new[1:] |= sids[1:, level] != sids[:-1, level]
            starts = np.flatnonzero(is_new)
            offsets = np.append(np.searchsorted(starts, parent_starts), len(starts))
            first_child.append(torch.from_numpy(offsets.astype(np.int32)))
            codes.append(torch.from_numpy(sids[starts, level].astype(np.int32)))
            widest.append(int(np.diff(offsets).max()))
            parent_starts = starts
        return cls(tuple(first_child), tuple(codes), tuple(widest))

    @property
    def num_levels(self) -> int:
        """Codes in one semantic ID."""
        return len(self.codes)

    @property
    def num_leaves(self) -> int:
        """Distinct semantic IDs."""
        return len(self.codes[-1])

    def to(self, device: torch.device | str) -> "SidTrie":
        """The same trie on another device."""
        return SidTrie(
            tuple(offsets.to(device) for offsets in self.first_child),
            tuple(codes.to(device) for codes in self.codes),
            self.max_children,
        )

    def children(self, level: int, parents: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes of `level` below the given nodes of the level above.

        Args:
            level: level of the children.
            parents: (batch, beams) int64 nodes of the level above; at level 0 all are 0, the root.

        Returns:
            (batch, beams, max_children[level]) int64 nodes, and the mask of those that exist.
        """
        offsets = self.first_child[level]
        start, end = offsets[parents].long(), offsets[parents + 1].long()
        reach = torch.arange(self.max_children[level], device=parents.device)
        nodes = start[..., None] + reach
        exists = nodes < end[..., None]
        return nodes.clamp(max=len(self.codes[level]) - 1), exists


class TrieAncestry:
    """Host-side view of the trie that turns excluded leaves into excluded nodes of every level."""

    def __init__(self, trie: SidTrie) -> None:
        self._first_child = [offsets.cpu().numpy() for offsets in trie.first_child]

    def dead_nodes(self, dead_leaves: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Nodes without a living leaf, per level.

        Args:
            dead_leaves: distinct leaves that must not be found, ascending.

        Returns:
            per level, ascending nodes all of whose leaves are dead.
        """
        dead = [dead_leaves]
        for offsets in reversed(self._first_child[1:]):
            parents = np.searchsorted(offsets, dead[-1], side="right") - 1
            candidates, num_dead = np.unique(parents, return_counts=True)
            num_children = offsets[candidates + 1] - offsets[candidates]
            dead.append(candidates[num_dead == num_children])
        return dead[::-1]


@dataclass(frozen=True)
class Exclusions:
    """Nodes that must not be entered, for each row of a batch.

    Args:
        nodes: per level, (batch, width) int64 ascending, filled up with NO_NODE; a width of 0
            means that nothing is excluded at this level.
    """

    nodes: tuple[Tensor, ...]

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Sequence[npt.NDArray[np.int64]]],
        num_levels: int,
        device: torch.device | str = "cpu",
    ) -> "Exclusions":
        """Stack each row's dead nodes per level; widths are rounded up to powers of two."""
        per_level = []
        for level in range(num_levels):
            widest = max((len(row[level]) for row in rows), default=0)
            width = 1 << (widest - 1).bit_length() if widest else 0
            nodes = np.full((len(rows), width), NO_NODE, dtype=np.int64)
            for padded, row in zip(nodes, rows, strict=True):
                padded[: len(row[level])] = row[level]
            per_level.append(torch.from_numpy(nodes).to(device))
        return cls(tuple(per_level))

    def contain(self, level: int, nodes: Tensor) -> Tensor | None:
        """Which of (batch, ...) nodes are excluded; None if nothing is at this level."""
        dead = self.nodes[level]
        if dead.shape[1] == 0:
            return None
        flat = nodes.flatten(1)
        place = torch.searchsorted(dead, flat).clamp(max=dead.shape[1] - 1)
        return (dead.gather(1, place) == flat).view(nodes.shape)
