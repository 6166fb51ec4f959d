"""Sort millions of semantic IDs in a second or two, without comparing them code by code.

As many levels as fit become one 63-bit number together with the item's place, so that sorting plain
numbers sorts items, stably. Where more levels follow, few items are still equal in most catalogs,
and only those are sorted further.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from operator import mul

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
    end = _fitting(codebook_sizes, len(codes))
    keys = _packed(codes, codebook_sizes, 0, end)
    places, keys = _sorted(keys if ties is None else keys[ties], prod(codebook_sizes[:end]))
    order = places if ties is None else ties[places]
    if end < len(codebook_sizes):
        _sort_equal(order, keys, codes[:, end:], codebook_sizes[end:])
    return order


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
    places, _ = _sorted(keys if ties is None else keys[ties], num_keys)
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


def _sort_equal(
    order: Ints, keys: Ints, codes: npt.NDArray[np.int32], codebook_sizes: Sequence[int]
) -> None:
    """Sort in place, by further levels, the items whose keys are equal and stand together."""
    follows = np.zeros(len(keys) + 1, dtype=bool)
    np.equal(keys[1:], keys[:-1], out=follows[1:-1])
    places = np.flatnonzero(follows[1:] | follows[:-1])
    runs = np.cumsum(~follows[places])
    items = order[places]
    rest = np.column_stack((runs, codes[items]))
    num_runs = int(runs[-1]) if len(runs) else 0
    order[places] = items[_sort_in_passes(rest, (num_runs + 1, *codebook_sizes))]


def _sort_in_passes(codes: Ints, codebook_sizes: Sequence[int]) -> Ints:
    """The order of rows: last levels first, as many at once as fit, at least one."""
    order = np.arange(len(codes))
    end = len(codebook_sizes)
    while end > 0:
        first = end - max(1, _fitting(codebook_sizes[:end][::-1], len(codes)))
        keys = _packed(codes, codebook_sizes, first, end)
        order = stable_order(keys, prod(codebook_sizes[first:end]), order)
        end = first
    return order


def _sorted(keys: Ints, num_keys: int) -> tuple[Ints, Ints]:
    """Places of the keys in ascending order, and the keys in this order."""
    place_bits = _place_bits(len(keys))
    if num_keys > 1 << (KEY_BITS - place_bits):
        places = np.argsort(keys, kind="stable")
        return places, keys[places]
    packed = keys << place_bits
    packed |= np.arange(len(keys))
    packed = pl.Series(packed).sort().to_numpy()
    return packed & ((1 << place_bits) - 1), packed >> place_bits


def _packed(
    codes: npt.NDArray[np.integer], codebook_sizes: Sequence[int], first: int, end: int
) -> Ints:
    """The codes of levels [first, end) as one number per item."""
    keys = np.zeros(len(codes), dtype=np.int64)
    for level in range(first, end):
        keys *= codebook_sizes[level]
        keys += codes[:, level]
    return keys


def _fitting(codebook_sizes: Sequence[int], num_items: int) -> int:
    """How many levels, from the first, make one number together with the item's place."""
    room = 1 << (KEY_BITS - _place_bits(num_items))
    return sum(size <= room for size in accumulate(codebook_sizes, mul))


def _place_bits(num_items: int) -> int:
    return max(num_items - 1, 0).bit_length()
