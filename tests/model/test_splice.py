"""Splicing against numpy's own insert, and raising against a loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.splice import raise_from, spliced


@given(data=st.data(), length=st.integers(0, 12))
def test_splicing_inserts(data: st.DataObject, length: int) -> None:
    """Rows come before the old rows that are named, in their order."""
    before = sorted(data.draw(st.lists(st.integers(0, length), max_size=6)))
    array = np.arange(2 * length, dtype=np.int32).reshape(-1, 2)
    values = np.array([[-n, n] for n in range(len(before))], dtype=np.int32).reshape(-1, 2)

    longer = spliced(array, before, values)

    np.testing.assert_array_equal(longer, np.insert(array, before, values, axis=0))
    assert longer.dtype == array.dtype


@given(data=st.data(), length=st.integers(0, 12))
def test_raising_adds_one_from_each_place_on(data: st.DataObject, length: int) -> None:
    """Places may come more than once, or stand behind the end."""
    places = sorted(data.draw(st.lists(st.integers(0, length), max_size=6)))
    numbers = np.zeros(length, dtype=np.int32)

    raise_from(numbers, places)

    assert numbers.tolist() == [sum(p <= n for p in places) for n in range(length)]
