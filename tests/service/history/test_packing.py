"""The bytes of a history: exact, and refused when they are something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import HistoryStoreError
from service.history.packing import pack, unpack

keys = st.lists(st.integers(1, 2**31 - 1), max_size=300)


@given(keys=keys)
def test_unpacking_undoes_packing(keys: list[int]) -> None:
    """Four bytes an item and one in front, and back again."""
    packed = pack(keys)

    assert len(packed) == 1 + 4 * len(keys)
    assert unpack(packed) == tuple(keys)


def test_the_layout_is_what_is_written_down() -> None:
    """A header of version 1 and width 4, then little-endian integers: files depend on it."""
    assert pack([1, 258]) == bytes([0x14, 1, 0, 0, 0, 2, 1, 0, 0])


@pytest.mark.parametrize("packed", [b"", b"\x24", b"\x14\x01", b"\x00\x01\x00\x00\x00"])
def test_another_layout_is_refused(packed: bytes) -> None:
    """An empty, newer or cut value is no history."""
    with pytest.raises(HistoryStoreError):
        unpack(packed)
