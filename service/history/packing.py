"""Histories as bytes: one header byte, then little-endian int32 item keys, oldest first.

The header's high half is the layout's version, its low half the width of a key in bytes. Keys are
the store's own (stable across models), not item indices.
"""

import struct
from collections.abc import Sequence

from service.errors import UnreadableHistoryError

HEADER = 0x14  # version 1, 4 bytes a key


def pack(keys: Sequence[int]) -> bytes:
    """The history's bytes."""
    return struct.pack(f"<B{len(keys)}i", HEADER, *keys)


def unpack(packed: bytes) -> tuple[int, ...]:
    """The history's keys, or UnreadableHistoryError when another layout's header is in front."""
    num_keys, rest = divmod(len(packed) - 1, 4)
    if rest or packed[0] != HEADER:
        raise UnreadableHistoryError(
            f"A stored history begins with {packed[:1]!r}, not a known layout."
        )
    return struct.unpack_from(f"<{num_keys}i", packed, 1)
