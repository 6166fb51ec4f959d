"""SidTable: item <-> semantic ID <-> tokens.

Shape words: num_items, num_levels, num_leaves (distinct semantic IDs; see Leaves).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.errors import ModelError
from model.leaves import Leaves

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
        known_leaves: the items' leaves where they need not be found again.
    """

    codes: npt.NDArray[np.int32]
    codebook_sizes: tuple[int, ...]
    popularity: Ints
    known_leaves: Leaves | None = None

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.codebook_sizes):
            raise ModelError(
                f"semantic IDs of shape {self.codes.shape} do not fit "
                f"{len(self.codebook_sizes)} codebooks"
            )
        lowest, highest = self.codes.min(initial=0), self.codes.max(initial=0)
        if lowest < 0 or highest >= min(self.codebook_sizes):  # else no code can be outside
            self._check_every_code()
        if len(self.popularity) != len(self.codes):
            raise ModelError(f"{len(self.popularity)} popularities for {len(self.codes)} items")

    def _check_every_code(self) -> None:
        outside = (self.codes < 0) | (self.codes >= np.asarray(self.codebook_sizes))
        if outside.any():
            item, level = np.argwhere(outside)[0]
            raise ModelError(
                f"item {item}: code {self.codes[item, level]} of level {level} is outside "
                f"[0, {self.codebook_sizes[level]})"
            )

    @property
    def num_items(self) -> int:
        """Items in the table."""
        return len(self.codes)

    @property
    def num_levels(self) -> int:
        """Codes in one semantic ID."""
        return len(self.codebook_sizes)

    @cached_property
    def leaves(self) -> Leaves:
        """The distinct semantic IDs, and whose they are."""
        if self.known_leaves is not None:
            return self.known_leaves
        return Leaves.of(self.codes, self.codebook_sizes, self.popularity)

    @property
    def sids(self) -> npt.NDArray[np.int32]:
        """(num_leaves, num_levels): the distinct semantic IDs in ascending order."""
        return self.leaves.sids

    def grown(self, codes: npt.NDArray[np.int32], popularity: Ints) -> "SidTable":
        """With items added at the end: (added, num_levels) codes and (added,) popularity."""
        both = np.concatenate((self.codes, codes.astype(np.int32, copy=False)))
        popular = np.concatenate((self.popularity, popularity))
        leaves = self.leaves.grown(both, popular)
        return SidTable(both, self.codebook_sizes, popular, leaves)

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

    def tokens_of(self, items: npt.ArrayLike) -> Ints:
        """(..., num_levels): the tokens of item indices of any shape."""
        tokens: Ints = self.codes[np.asarray(items)] + self._first_token
        return tokens

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
        tokens = self.tokens_of(rows)
        if separator:
            ends = np.full((*rows.shape, 1), SEPARATOR, dtype=np.int64)
            tokens = np.concatenate((tokens, ends), axis=-1)
        tokens = tokens.reshape(len(rows), -1)
        mask = np.repeat(rows >= 0, tokens.shape[1] // num_items, axis=1)
        return np.where(mask, tokens, PAD), mask


def vocabulary_size(codebook_sizes: Sequence[int]) -> int:
    """Special tokens and one token per code of every level."""
    return NUM_SPECIAL_TOKENS + sum(codebook_sizes)
