"""Shelf: a part of the catalog, item by item and node by node; what a filter comes down to.

Shape words: num_items, nodes (of one level of the trie), num_leaves.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.ancestry import Ancestry, Ints, Marks
from model.leaves import Leaves


@dataclass(frozen=True)
class Shelf:
    """Which items may be found, and which nodes lead to one.

    Args:
        items: (num_items,) bool.
        marks: per level, (nodes,) bool; on a CPU they share their memory with `tensors`.
        tensors: the same on the engine's device.
    """

    items: Marks
    marks: tuple[Marks, ...]
    tensors: tuple[Tensor, ...]

    @classmethod
    def of(cls, items: Marks, leaves: Leaves, ancestry: Ancestry, device: torch.device) -> Self:
        """The part of the catalog that (num_items,) bool marks."""
        alive = np.zeros(len(leaves.sids), dtype=bool)
        alive[leaves.of_item[items]] = True
        marks = ancestry.marks_above(alive)
        return cls(items, marks, tuple(torch.from_numpy(level).to(device) for level in marks))

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, on the host or the device."""
        on_device = sum(level.nbytes for level in self.tensors if level.device.type != "cpu")
        return self.items.nbytes + sum(level.nbytes for level in self.marks) + on_device

    def change(self, item: int, alive: bool, leaves: Leaves, ancestry: Ancestry) -> None:
        """Put one item on the shelf or take it off, in place."""
        self.items[item] = alive
        leaf = int(leaves.of_item[item])
        bucket = leaves.items[leaves.offsets[leaf] : leaves.offsets[leaf + 1]]
        path = ancestry.update(self.marks, leaf, bool(self.items[bucket].any()))
        for level, node in enumerate(path):
            self.tensors[level][node] = bool(self.marks[level][node])


def dead_leaves(closed: Ints, leaves: Leaves, open_items: Marks | None) -> Ints:
    """Ascending leaves all of whose open items are closed, of those that had any.

    Args:
        closed: distinct item indices.
        leaves: of all items.
        open_items: (num_items,) bool, which items were open before; None = all.
    """
    if open_items is not None:
        closed = closed[open_items[closed]]
    touched, num_closed = np.unique(leaves.of_item[closed], return_counts=True)
    starts, ends = leaves.offsets[touched], leaves.offsets[touched + 1]
    num_open = ends - starts
    shared = np.flatnonzero(num_open > 1) if open_items is not None else ()
    for place in shared:
        assert open_items is not None
        bucket = leaves.items[starts[place] : ends[place]]
        num_open[place] = np.count_nonzero(open_items[bucket])
    dead: Ints = touched[num_closed == num_open].astype(np.int64)
    return dead


def most_per_leaf(numbers: npt.NDArray[np.float32], leaves: Leaves) -> npt.NDArray[np.float32]:
    """(num_leaves,): the largest of (num_items,) numbers among each leaf's items."""
    most: npt.NDArray[np.float32] = np.maximum.reduceat(numbers[leaves.items], leaves.offsets[:-1])
    return most
