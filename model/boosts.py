"""Boosts: what is added to the ranks of items, and of the nodes above them.

For many items, e.g. all of a filter, as an array over the catalog; for listed items as lists, so
that those of one user cost what they are long. Shape words: num_items, nodes (of one level).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.ancestry import Ancestry, Ints, Numbers
from model.catalog import Catalog
from model.leaves import Leaves
from model.queries import MAX_BOOST, Boost
from model.shelf import Shelf, most_per_leaf
from model.where import Where

Parse = Callable[[str], Where]


@dataclass(frozen=True)
class Biases:
    """What boosts add to each item, and the most of it below each node.

    Args:
        items: (num_items,) float32.
        tensors: per level, (nodes,) float32 on the engine's device.
    """

    items: Numbers
    tensors: tuple[Tensor, ...]

    @classmethod
    def of(
        cls,
        items: Numbers,
        shelf: Shelf | None,
        leaves: Leaves,
        ancestry: Ancestry,
        device: torch.device,
    ) -> "Biases":
        """Of what is added to every item, where only those of a shelf can be found."""
        reached = items if shelf is None else np.where(shelf.items, items, -np.inf)
        numbers = most_per_leaf(reached.astype(np.float32), leaves)
        levels = ancestry.most_below(np.maximum(numbers, -MAX_BOOST))
        return cls(items, tuple(torch.from_numpy(level).to(device) for level in levels))

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, on the host or the device."""
        return self.items.nbytes + sum(level.nbytes for level in self.tensors)

    def added_to(self, items: Ints) -> Numbers:
        """What is added to each of some items."""
        return self.items[items]


@dataclass(frozen=True)
class FewBiases:
    """The same for a few items; nothing is added to any other.

    Args:
        items: ascending.
        numbers: theirs.
        nodes: per level, ascending nodes above them and the most below each.
    """

    items: Ints
    numbers: Numbers
    nodes: Sequence[tuple[Ints, Numbers]]

    @classmethod
    def of(
        cls, items: Ints, numbers: Numbers, shelf: Shelf | None, leaves: Leaves, ancestry: Ancestry
    ) -> "FewBiases":
        """Of what is added to ascending items, where only those of a shelf can be found."""
        touched = np.unique(leaves.of_item[items])
        starts, ends = leaves.offsets[touched], leaves.offsets[touched + 1]
        sizes = ends - starts
        shift = ends - np.cumsum(sizes)
        bucket = leaves.items[np.arange(sizes.sum()) + np.repeat(shift, sizes)]
        owners = np.repeat(touched, sizes)
        if shelf is not None:
            is_open = shelf.items[bucket]
            bucket, owners = bucket[is_open], owners[is_open]
        reached, begins = np.unique(owners, return_index=True)
        most = np.maximum.reduceat(_looked_up(items, numbers, bucket), begins)
        marks = None if shelf is None else shelf.marks
        nodes = ancestry.few_most_below(reached.astype(np.int64), most, marks)
        return cls(items, numbers, nodes)

    def added_to(self, items: Ints) -> Numbers:
        """What is added to each of some items."""
        return _looked_up(self.items, self.numbers, items)


def _looked_up(known: Ints, numbers: Numbers, items: npt.NDArray[np.integer]) -> Numbers:
    """The numbers of some items, 0 for those that are not among the ascending known ones."""
    place = np.searchsorted(known, items).clip(max=len(known) - 1)
    return np.where(known[place] == items, numbers[place], np.float32(0))


def boosted(boosts: Sequence[Boost], catalog: Catalog, parse: Parse) -> Numbers:
    """(num_items,): all that applies to each item, within bounds."""
    total = np.zeros(len(catalog), dtype=np.float32)
    for boost in boosts:
        chosen: npt.NDArray[np.bool_ | np.int64] = np.ones(len(total), dtype=bool)
        if boost.items is not None:
            chosen = _listed(boost, catalog, parse)
        elif boost.where is not None:
            chosen = parse(boost.where).evaluate(catalog.frame)
        total[chosen] += np.float32(boost.by)
    return total.clip(-MAX_BOOST, MAX_BOOST)


def few_boosted(boosts: Sequence[Boost], catalog: Catalog, parse: Parse) -> tuple[Ints, Numbers]:
    """Ascending items, and all that applies to each, within bounds; every boost lists items."""
    listed = [_listed(boost, catalog, parse) for boost in boosts]
    items = np.unique(np.concatenate(listed))
    total = np.zeros(len(items), dtype=np.float32)
    for boost, chosen in zip(boosts, listed, strict=True):
        total[np.searchsorted(items, chosen)] += np.float32(boost.by)
    return items, total.clip(-MAX_BOOST, MAX_BOOST)


def _listed(boost: Boost, catalog: Catalog, parse: Parse) -> Ints:
    """The distinct items that a boost lists and that match its expression."""
    items = np.unique(np.asarray(boost.items, dtype=np.int64))
    if boost.where is None:
        return items
    where = parse(boost.where)
    return items[where.evaluate(catalog.frame[items])]
