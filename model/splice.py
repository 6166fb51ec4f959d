"""Putting a few numbers into long sorted arrays: copied piece by piece, as fast as memory is."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt


def spliced(
    array: npt.NDArray[np.int32], before: Sequence[int], values: Sequence[Any] | npt.NDArray[Any]
) -> npt.NDArray[np.int32]:
    """A copy with further rows.

    Args:
        array: (rows, ...).
        before: ascending; values[n] comes before the old row before[n], and after values[n - 1].
        values: as many new rows.
    """
    longer = np.empty((len(array) + len(before), *array.shape[1:]), dtype=array.dtype)
    start = 0
    for shift, (place, value) in enumerate(zip(before, values, strict=True)):
        longer[start + shift : place + shift] = array[start:place]
        longer[place + shift] = value
        start = place
    longer[start + len(before) :] = array[start:]
    return longer


def raise_from(numbers: npt.NDArray[np.int32], places: Sequence[int]) -> None:
    """Add 1 to all numbers from each of the ascending places on."""
    for more, (start, end) in enumerate(pairwise([*places, len(numbers)]), start=1):
        numbers[start:end] += more
