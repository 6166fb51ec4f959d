"""Leaves: the distinct semantic IDs in ascending order, and the items of each.

Shape words: num_items, num_leaves, num_levels. A *leaf* is a semantic ID's rank among all of them,
which is also its node in the last level of the trie.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.sid_sort import distinct, sort_codes, stable_order
from model.splice import raise_from, spliced

Codes = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Leaves:
    """Which items have which semantic ID; several items may share one (a *bucket*).

    Args:
        sids: (num_leaves, num_levels) int32, distinct and ascending.
        of_item: (num_items,) int32, each item's leaf.
        items: (num_items,) int32, grouped by leaf, popular first, then by item_index.
        offsets: (num_leaves + 1,) int32; leaf i owns items[offsets[i] : offsets[i + 1]].
    """

    sids: Codes
    of_item: Codes
    items: Codes
    offsets: Codes

    @classmethod
    def of(cls, codes: Codes, codebook_sizes: Sequence[int], popularity: Ints) -> "Leaves":
        """Sort the items of (num_items, num_levels) codes."""
        popular_first = popular_order(popularity)
        order = sort_codes(codes, codebook_sizes, popular_first)
        starts = distinct(codes, order)
        offsets = np.append(starts, len(order)).astype(np.int32)
        of_item = np.empty(len(order), dtype=np.int32)
        of_item[order] = np.repeat(np.arange(len(starts), dtype=np.int32), np.diff(offsets))
        sids = codes.take(order[starts], axis=0).astype(np.int32)
        return cls(sids, of_item, order.astype(np.int32), offsets)

    def to_tensors(self) -> dict[str, Tensor]:
        """For a safetensors file, beside the trie's, which holds the semantic IDs."""
        arrays = {"of_item": self.of_item, "items": self.items, "offsets": self.offsets}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Leaves":
        """The inverse, given the trie's tensors too; without copying."""
        names = ("sids", "of_item", "items", "offsets")
        return cls(*(tensors[name].numpy() for name in names))

    def grown(self, codes: Codes, popularity: Ints) -> "Leaves":
        """With items added at the end; nothing is sorted again.

        Args:
            codes: (num_items + added, num_levels) of all items, the added ones last.
            popularity: (num_items + added,) of all items.
        """
        added = range(len(self.of_item), len(codes))
        fresh = np.unique(codes[added.start :], axis=0)
        new = [(leaf, sid) for sid in fresh for leaf, exists in [self._find(sid)] if not exists]
        before = [leaf for leaf, _ in new]
        sids = spliced(self.sids, before, [sid for _, sid in new])
        offsets = spliced(self.offsets, before, self.offsets[before])
        of_item = self.of_item
        if before:
            of_item = of_item + _num_up_to(before, len(self.sids))[of_item]
        grown = Leaves(sids, of_item, self.items, offsets)
        leaves = [grown._find(sid)[0] for sid in codes[added.start :]]
        order = sorted(range(len(added)), key=lambda n: (leaves[n], -popularity[added[n]], n))
        places = [grown._place(leaves[n], popularity[added[n]], popularity) for n in order]
        items = spliced(self.items, places, [added[n] for n in order])
        raise_from(offsets, [leaves[n] + 1 for n in order])
        of_item = np.concatenate((of_item, np.array(leaves, dtype=np.int32)))
        return Leaves(sids, of_item, items, offsets)

    def last_codes(self, prefix: Codes) -> set[int]:
        """The last codes of all semantic IDs that begin with the codes but the last."""
        start, end = self._range(prefix)
        return set(self.sids[start:end, -1].tolist())

    def _find(self, sid: Codes) -> tuple[int, bool]:
        """A semantic ID's leaf, or the first one above it; and whether it exists."""
        start, end = self._range(sid)
        return start, start < end

    def _range(self, prefix: Codes) -> tuple[int, int]:
        """The leaves that begin with these codes; where they would stand, if there are none."""
        start, end = 0, len(self.sids)
        for level, code in enumerate(prefix):
            column = self.sids[start:end, level]
            end = start + int(np.searchsorted(column, code, side="right"))
            start = start + int(np.searchsorted(column, code, side="left"))
        return start, end

    def _place(self, leaf: int, popularity: int, of_all: Ints) -> int:
        """Where an item of a popularity goes among the items of a leaf."""
        start, end = int(self.offsets[leaf]), int(self.offsets[leaf + 1])
        bucket = of_all[self.items[start:end]]
        return start + int(np.searchsorted(-bucket, -popularity, side="right"))


def popular_order(popularity: Ints) -> Ints:
    """(num_items,) items, most popular first, then by item_index."""
    most = int(popularity.max(initial=0))
    return stable_order(most - popularity, most - int(popularity.min(initial=0)) + 1)


def _num_up_to(before: Sequence[int], num_leaves: int) -> Codes:
    """(num_leaves,): how many leaves were put in before each old one or at its place."""
    counts = np.zeros(num_leaves, dtype=np.int32)
    raise_from(counts, before)
    return counts
