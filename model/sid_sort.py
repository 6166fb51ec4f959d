"""Sort millions of semantic IDs in a second or two, without comparing them code by code.

As many levels as fit become one 63-bit number together with the item's place, so that sorting
plain numbers sorts items, stably. The rest is sorted in further passes, last levels first.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]

KEY_BITS = 63


def sort_codes(
    codes: npt.NDArray[np.int32], codebook_sizes: Sequence[int], ties: Ints | None = None
) -> Ints:
    """Items in ascending order of semantic ID, first level first.

    Args:
        codes: (num_items, num_levels), those of each level in [0, its codebook size).
        codebook_sizes: codes of each level.
        ties: (num_items,) all items; those with equal semantic IDs stay in this order. None: in the
            order of their indices.

    Returns:
        (num_items,) item indices.
    """
    order = ties
    for first, end in reversed(_passes(codebook_sizes, len(codes))):
        keys = np.zeros(len(codes), dtype=np.int64)
        for level in range(first, end):
            keys *= codebook_sizes[level]
            keys += codes[:, level]
        order = stable_order(keys, prod(codebook_sizes[first:end]), order)
    return np.arange(len(codes)) if order is None else order


def stable_order(keys: Ints, num_keys: int, ties: Ints | None = None) -> Ints:
    """Where the keys stand in ascending order.

    Args:
        keys: (num_items,) in [0, num_keys).
        num_keys: if it is so large that a key and a place do not fit into 63 bits, sorting takes
            several times longer.
        ties: (num_items,) all places; equal keys stay in this order. None: in the order they have.

    Returns:
        (num_items,) places.
    """
    keys = keys if ties is None else keys[ties]
    place_bits = _place_bits(len(keys))
    if num_keys > 1 << (KEY_BITS - place_bits):
        places = np.argsort(keys, kind="stable")
    else:
        packed = keys << place_bits
        packed |= np.arange(len(keys))
        places = pl.Series(packed).sort().to_numpy() & ((1 << place_bits) - 1)
    return places if ties is None else ties[places]


def distinct(codes: npt.NDArray[np.int32], order: Ints) -> Ints:
    """Where a run of equal semantic IDs starts.

    Args:
        codes: (num_items, num_levels).
        order: (num_items,) of `sort_codes`.

    Returns:
        (num_leaves,) ascending places in `order`: `codes.take(order[starts], axis=0)` are the
        distinct semantic IDs in ascending order.
    """
    is_first = np.zeros(len(order), dtype=bool)
    is_first[:1] = True
    ordered = codes.take(order, axis=0)
    for level in range(codes.shape[1]):
        is_first[1:] |= ordered[1:, level] != ordered[:-1, level]
    return np.flatnonzero(is_first)


def _passes(codebook_sizes: Sequence[int], num_items: int) -> list[tuple[int, int]]:
    """Ranges of levels to sort by at once; every range holds at least one level."""
    most = 1 << (KEY_BITS - _place_bits(num_items))
    passes: list[tuple[int, int]] = []
    end = len(codebook_sizes)
    while end > 0:
        first = end - 1
        while first > 0 and prod(codebook_sizes[first - 1 : end]) <= most:
            first -= 1
        passes.append((first, end))
        end = first
    return passes[::-1]


def _place_bits(num_items: int) -> int:
    return max(num_items - 1, 0).bit_length()
