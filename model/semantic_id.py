"""SidTable: item <-> semantic ID <-> tokens.

Shape words: num_items, num_levels, num_leaves (distinct semantic IDs). A *leaf* is a semantic ID's
rank among all of them in ascending order, which is also its node in the last level of the trie.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.errors import ModelError

PAD, BOS, SEPARATOR = 0, 1, 2
NUM_SPECIAL_TOKENS = 3

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SidTable:
    """Every item's semantic ID; several items may share one (a *bucket*).

    Args:
        codes: (num_items, num_levels) int, row = item_index.
        codebook_sizes: codes of each level lie in [0, size).
        popularity: (num_items,) decides the order inside a bucket: popular first.
    """

    codes: npt.NDArray[np.int32]
    codebook_sizes: tuple[int, ...]
    popularity: Ints

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.codebook_sizes):
            raise ModelError(
                f"semantic IDs of shape {self.codes.shape} do not fit "
                f"{len(self.codebook_sizes)} codebooks"
            )
        outside = (self.codes < 0) | (self.codes >= np.asarray(self.codebook_sizes))
        if outside.any():
            item, level = np.argwhere(outside)[0]
            raise ModelError(
                f"item {item}: code {self.codes[item, level]} of level {level} is outside "
                f"[0, {self.codebook_sizes[level]})"
            )
        if len(self.popularity) != len(self.codes):
            raise ModelError(f"{len(self.popularity)} popularities for {len(self.codes)} items")

    @property
    def num_items(self) -> int:
        """Items in the table."""
        return len(self.codes)

    @property
    def num_levels(self) -> int:
        """Codes in one semantic ID."""
        return len(self.codebook_sizes)

    @cached_property
    def _leaves(self) -> tuple[npt.NDArray[np.int32], Ints]:
        sids, leaf_of_item = np.unique(self.codes, axis=0, return_inverse=True)
        return sids.astype(np.int32), leaf_of_item.reshape(-1).astype(np.int64)

    @property
    def sids(self) -> npt.NDArray[np.int32]:
        """(num_leaves, num_levels): the distinct semantic IDs in ascending order."""
        return self._leaves[0]

    @property
    def leaf_of_item(self) -> Ints:
        """(num_items,): which leaf each item belongs to."""
        return self._leaves[1]

    @cached_property
    def items_by_leaf(self) -> Ints:
        """(num_items,): items grouped by leaf, popular first, then by item_index."""
        order = np.lexsort((np.arange(self.num_items), -self.popularity, self.leaf_of_item))
        return order.astype(np.int64)

    @cached_property
    def leaf_offsets(self) -> Ints:
        """(num_leaves + 1,): leaf i owns items_by_leaf[leaf_offsets[i] : leaf_offsets[i + 1]]."""
        sizes = np.bincount(self.leaf_of_item, minlength=len(self.sids))
        return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)

    @cached_property
    def _first_token(self) -> Ints:
        return NUM_SPECIAL_TOKENS + np.concatenate(([0], np.cumsum(self.codebook_sizes)[:-1]))

    @property
    def vocabulary_size(self) -> int:
        """Special tokens and one token per code of every level."""
        return vocabulary_size(self.codebook_sizes)

    def first_token(self, level: int) -> int:
        """The token of code 0 at this level."""
        return int(self._first_token[level])

    @cached_property
    def item_tokens(self) -> Ints:
        """(num_items, num_levels): each item's tokens."""
        return self.codes.astype(np.int64) + self._first_token

    def pack(
        self, histories: Sequence[Sequence[int]], *, separator: bool, num_items: int
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Lay histories out as token rows, oldest item first, padded on the right.

        Args:
            histories: item indices, oldest first; longer ones lose their oldest items.
            separator: put SEPARATOR after every item.
            num_items: row length in items, so that shapes can be bucketed.

        Returns:
            (batch, num_items * tokens per item) tokens, and the mask of real ones.
        """
        rows = np.full((len(histories), num_items), -1, dtype=np.int64)
        for row, history in zip(rows, histories, strict=True):
            newest = history[-num_items:]
            row[: len(newest)] = newest
        tokens = self.item_tokens[rows]
        if separator:
            ends = np.full((*rows.shape, 1), SEPARATOR, dtype=np.int64)
            tokens = np.concatenate((tokens, ends), axis=-1)
        tokens = tokens.reshape(len(rows), -1)
        mask = np.repeat(rows >= 0, tokens.shape[1] // num_items, axis=1)
        return np.where(mask, tokens, PAD), mask


def vocabulary_size(codebook_sizes: Sequence[int]) -> int:
    """Special tokens and one token per code of every level."""
    return NUM_SPECIAL_TOKENS + sum(codebook_sizes)
