"""SidTrie: which codes may follow a prefix, as arrays per level (compressed sparse rows).

Nodes of level l are the distinct prefixes of l + 1 codes in ascending order, numbered from 0; the
nodes of the last level are the leaves. Children of one node are therefore neighbours, and a lower
node number means a smaller semantic ID. Shape words: batch, beams, places (of a flat list of
candidates), leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

MAX_COUNTED = 4096
"""How many of a level's widest nodes are counted one by one."""

Codes = npt.NDArray[np.int32]


MOST_FILLER = 2
"""Ranges get equal shares of a list if it becomes at most so many times as long by that."""


class Spread(NamedTuple):
    """Ranges of nodes, one per beam, as one flat list per row.

    nodes: (batch, places) int64; owners: (batch, places) int64, the beam each belongs to; exists:
    (batch, places) bool, False = filler; share: places of every beam, if all have as many and
    filler is behind each beam's last node; 0 if filler is behind the last node of all.
    """

    nodes: Tensor
    owners: Tensor
    exists: Tensor
    share: int


@dataclass(frozen=True)
class SidTrie:
    """The semantic IDs that exist.

    Args:
        first_child: per level, (nodes of the level above + 1,) int32; node p of the level above
            owns the nodes first_child[p] : first_child[p + 1]. The level above level 0 is the root.
        codes: per level, (nodes,) int32, the last code of each prefix.
        sids: (leaves, num_levels) int32, the leaves' codes.
        most_children: per level, how many children the widest 1, 2, 3, ... parents have together:
            no beams can have more, as they are distinct. One wide node widens no other's share.
        most_leaves: per level, the same for leaves below the level's own nodes.
    """

    first_child: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]
    sids: Tensor
    most_children: tuple[npt.NDArray[np.int64], ...]
    most_leaves: tuple[npt.NDArray[np.int64], ...]

    @classmethod
    def from_sids(cls, sids: Codes) -> Self:
        """Build from (num_leaves, num_levels) distinct semantic IDs in ascending order."""
        if len(sids) == 0:
            raise ValueError("a trie needs at least one semantic ID")
        num_leaves = len(sids)
        whole = np.ascontiguousarray(sids, dtype=np.int32)
        first_child, codes, children, leaves = [], [], [], []
        is_new = np.zeros(num_leaves, dtype=bool)
        is_new[0] = True
        starts = np.zeros(1, dtype=np.int64)
        below = widest_together(np.array([num_leaves]))
        for column in np.ascontiguousarray(whole.T):
            if len(starts) == num_leaves:  # one child each, with its parent's number
                first_child.append(np.arange(num_leaves + 1, dtype=np.int32))
                codes.append(column.copy())
                children.append(below.copy())
            else:
                was_new = is_new.copy()
                is_new[1:] |= column[1:] != column[:-1]
                starts = np.flatnonzero(is_new)
                offsets = np.append(np.flatnonzero(was_new[starts]), len(starts))
                first_child.append(offsets.astype(np.int32))
                codes.append(column[starts])
                children.append(widest_together(np.diff(offsets)))
                below = widest_together(np.diff(starts, append=num_leaves))
            leaves.append(below.copy())
        return cls(
            tuple(map(torch.from_numpy, first_child)),
            tuple(map(torch.from_numpy, codes)),
            torch.from_numpy(whole),
            tuple(children),
            tuple(leaves),
        )

    def to_tensors(self) -> dict[str, Tensor]:
        """For a safetensors file; `from_tensors` reads them back, without copying."""
        tensors = {"sids": self.sids}
        for level in range(self.num_levels):
            tensors |= {
                f"first_child.{level}": self.first_child[level],
                f"codes.{level}": self.codes[level],
                f"most_children.{level}": torch.from_numpy(self.most_children[level]),
                f"most_leaves.{level}": torch.from_numpy(self.most_leaves[level]),
            }
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of to_tensors; KeyError if one is missing."""
        sids = tensors["sids"]
        levels = range(sids.shape[1])
        return cls(
            tuple(tensors[f"first_child.{level}"] for level in levels),
            tuple(tensors[f"codes.{level}"] for level in levels),
            sids,
            tuple(tensors[f"most_children.{level}"].numpy() for level in levels),
            tuple(tensors[f"most_leaves.{level}"].numpy() for level in levels),
        )

    @property
    def num_levels(self) -> int:
        """Codes in one semantic ID."""
        return len(self.codes)

    @property
    def num_leaves(self) -> int:
        """Distinct semantic IDs."""
        return self.sids.shape[0]

    def to(self, device: torch.device | str) -> "SidTrie":
        """The same trie on another device."""
        return SidTrie(
            tuple(offsets.to(device) for offsets in self.first_child),
            tuple(codes.to(device) for codes in self.codes),
            self.sids.to(device),
            self.most_children,
            self.most_leaves,
        )

    def children(self, level: int, parents: Tensor, legal: Tensor | None = None) -> Spread:
        """The nodes of `level` below the given nodes of the level above.

        Args:
            level: level of the children.
            parents: (batch, beams) int64 nodes of the level above; at level 0 all are 0, the root.
            legal: (batch, beams) bool, beams that are not mere filler: distinct in each row. The
                children of others need not be listed. None = all.
        """
        batch, beams = parents.shape
        num_nodes = self.codes[level].shape[0]
        if level and num_nodes == self.codes[level - 1].shape[0]:  # one child each
            owners = torch.arange(beams, device=parents.device).expand(batch, -1)
            return Spread(parents, owners, torch.ones_like(parents, dtype=torch.bool), 1)
        spans = self.first_child[level].unfold(0, 2, 1).index_select(0, parents.flatten())
        start, end = spans.view(batch, beams, 2).unbind(2)
        widest = int(self.most_children[level][0])
        room = together(self.most_children[level], beams)
        if widest * beams <= MOST_FILLER * room:
            return _in_equal_shares(start, end, widest, num_nodes)
        end = end if legal is None else torch.where(legal, end, start)
        return spread(start.long(), end.long(), room, num_nodes)

    def codes_of(self, level: int, nodes: Tensor) -> Tensor:
        """int64, the last code of each node, in the nodes' shape."""
        return self.codes[level].index_select(0, nodes.flatten()).view(nodes.shape).long()

    def leaves_below(
        self, level: int, nodes: Tensor, legal: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The first leaf below each node of `level`, and the one behind its last; see `children`.

        Below filler there is none.
        """
        bounds = torch.stack((nodes, nodes + 1)).flatten()
        for offsets in self.first_child[level + 1 :]:
            bounds = offsets.index_select(0, bounds)
        start, end = bounds.view(2, *nodes.shape).long()
        return start, end if legal is None else torch.where(legal, end, start)


def spread(start: Tensor, end: Tensor, places: int, num_nodes: int) -> Spread:
    """List the nodes start : end of every beam, one beam after the other.

    Args:
        start: (batch, beams) int64.
        end: same shape.
        places: length of the list; what does not fit is left out.
        num_nodes: filler stays below this number.
    """
    batch, beams = start.shape
    place = torch.arange(places, device=start.device)
    counts = end - start
    ends = counts.cumsum(1)
    owners = torch.searchsorted(ends, place.expand(batch, -1).contiguous(), right=True)
    exists = owners < beams
    owners = owners.clamp(max=beams - 1)
    nodes = (end - ends).gather(1, owners) + place
    return Spread(nodes.clamp(max=num_nodes - 1), owners, exists, 0)


def _in_equal_shares(start: Tensor, end: Tensor, share: int, num_nodes: int) -> Spread:
    """The same with `share` places for every beam; int32 ranges no longer than that."""
    batch, beams = start.shape
    nodes = start[..., None] + torch.arange(share, dtype=torch.int32, device=start.device)
    exists = nodes < end[..., None]
    nodes = nodes.clamp_(max=num_nodes - 1).flatten(1).long()
    owners = torch.arange(beams, device=start.device)[:, None].expand(-1, share).flatten()
    return Spread(nodes, owners.expand(batch, -1), exists.flatten(1), share)


def widest_together(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(at most MAX_COUNTED,): sums of the 1, 2, 3, ... largest counts."""
    times = np.bincount(counts)[::-1]  # how often each count occurs, the largest first
    sizes = np.arange(len(times) - 1, -1, -1)
    needed = int(np.searchsorted(np.cumsum(times), MAX_COUNTED)) + 1
    widest = np.repeat(sizes[:needed], times[:needed])[:MAX_COUNTED]
    return np.cumsum(widest, dtype=np.int64)


def together(most: npt.NDArray[np.int64], num_nodes: int) -> int:
    """The most that `num_nodes` distinct nodes have together."""
    counted = len(most)
    if num_nodes <= counted:
        return int(most[num_nodes - 1])
    if counted < MAX_COUNTED:
        return int(most[-1])
    return int(most[-1] + (num_nodes - counted) * (most[-1] - most[-2]))
