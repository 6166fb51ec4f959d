"""Rules: what each row of a batch may find, and what it would rather find, node by node.

Everything here is tensors that were made before the search; nothing waits for the device.
Shape words: batch, places (candidates of one level), width (of a sorted list of nodes).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NO_NODE = np.iinfo(np.int32).max

Nodes = Sequence[npt.NDArray[np.int64]]
"""Per level, ascending nodes."""


@dataclass(frozen=True)
class NodeSets:
    """A set of nodes per level for each row of a batch.

    Args:
        nodes: per level, (batch, width) int64 ascending, filled up with NO_NODE; a width of 0
            means that all sets of this level are empty.
    """

    nodes: tuple[Tensor, ...]

    @classmethod
    def from_rows(
        cls, rows: Sequence[Nodes], num_levels: int, device: torch.device | str = "cpu"
    ) -> "NodeSets":
        """Stack each row's nodes per level; widths are rounded up to powers of two."""
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
        """Which of (batch, places) nodes are in their row's set; None if all sets are empty."""
        members = self.nodes[level]
        if members.shape[1] == 0:
            return None
        place = torch.searchsorted(members, nodes).clamp(max=members.shape[1] - 1)
        return members.gather(1, place) == nodes


@dataclass(frozen=True)
class NodeNumbers:
    """A number for some nodes per level for each row of a batch; all others have 0.

    Args:
        sets: which nodes.
        numbers: per level, (batch, width) float32, theirs.
    """

    sets: NodeSets
    numbers: tuple[Tensor, ...]

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]],
        device: torch.device | str,
    ) -> "NodeNumbers":
        """Stack each row's ascending nodes and their numbers per level."""
        nodes = [[level for level, _ in row] for row in rows]
        sets = NodeSets.from_rows(nodes, len(rows[0]), device)
        per_level = []
        for level, members in enumerate(sets.nodes):
            padded = np.zeros(tuple(members.shape), dtype=np.float32)
            for place, row in zip(padded, rows, strict=True):
                place[: len(row[level][1])] = row[level][1]
            per_level.append(torch.from_numpy(padded).to(device))
        return cls(sets, tuple(per_level))

    def look_up(self, level: int, nodes: Tensor) -> Tensor:
        """(batch, places) float32: each node's number."""
        members = self.sets.nodes[level]
        if members.shape[1] == 0:
            return torch.zeros(nodes.shape, device=nodes.device)
        place = torch.searchsorted(members, nodes).clamp(max=members.shape[1] - 1)
        known = members.gather(1, place) == nodes
        return self.numbers[level].gather(1, place).where(known, 0.0)


@dataclass(frozen=True)
class Share:
    """Numbers or marks for all nodes, for the rows that have them in common.

    Args:
        rows: (rows,) int64; None = all of the batch.
        levels: per level, (nodes,): bool marks, or float32 numbers.
    """

    rows: Tensor | None
    levels: tuple[Tensor, ...]

    def look_up(self, level: int, nodes: Tensor, otherwise: float) -> Tensor:
        """(batch, places): each node's value, `otherwise` in rows that do not share."""
        values = self.levels[level]
        if self.rows is None:
            return values[nodes]
        found = torch.full(nodes.shape, otherwise, dtype=values.dtype, device=nodes.device)
        return found.index_copy(0, self.rows, values[nodes[self.rows]])


@dataclass(frozen=True)
class Quota:
    """At most `most` items of a row below one prefix of `lengths` codes.

    Args:
        most: (batch, 1) int64.
        lengths: (batch, 1) int64; 0 = no quota in this row.
    """

    most: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class Rules:
    """The rules of a batch; without any, every leaf may be found.

    Args:
        excluded: nodes that a row must not enter, e.g. those of seen items.
        allowed: the only nodes that a row may enter, for rows of `bound`.
        bound: (batch, 1) bool; there if `allowed` is.
        alive: marks of the nodes that rows with the same filter may enter.
        biases: numbers added to a candidate's rank, the most that any leaf below it gets.
        few_biases: the same where only a few leaves have one.
        quota: how many leaves may share a prefix.
    """

    excluded: NodeSets | None = None
    allowed: NodeSets | None = None
    bound: Tensor | None = None
    alive: tuple[Share, ...] = ()
    biases: tuple[Share, ...] = ()
    few_biases: NodeNumbers | None = None
    quota: Quota | None = None

    def legal(self, level: int, nodes: Tensor, exists: Tensor) -> Tensor:
        """Which of the (batch, places) nodes that exist may be entered."""
        legal = exists
        for share in self.alive:
            legal = legal & share.look_up(level, nodes, otherwise=True)
        if self.excluded is not None:
            excluded = self.excluded.contain(level, nodes)
            legal = legal if excluded is None else legal & ~excluded
        if self.allowed is not None:
            assert self.bound is not None
            allowed = self.allowed.contain(level, nodes)
            legal = legal & (~self.bound if allowed is None else allowed | ~self.bound)
        return legal

    def bias(self, level: int, nodes: Tensor) -> Tensor | None:
        """(batch, places) float32 to add to ranks; None = nothing."""
        total = None if self.few_biases is None else self.few_biases.look_up(level, nodes)
        for share in self.biases:
            found = share.look_up(level, nodes, otherwise=0.0)
            total = found if total is None else total + found
        return total


NO_RULES = Rules()
