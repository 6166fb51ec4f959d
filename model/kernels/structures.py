"""What the compiled library is handed: structures of pointers, and the tensors behind them.

Shape words as in library.py.
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

CACHED_BYTES = 2**25
"""Weights of a model that stay in the last cache of a server processor."""
STREAMED_COST = 12
"""What one more pass over more than that costs, in rows that it could read instead."""

WEIGHTS = (
    *("query", "query_bias", "query_norm", "key_value", "key_value_bias", "key_norm", "out"),
    *("cross_query", "cross_out"),
    *("inner", "inner_bias", "gate", "middle", "middle_bias", "outer", "outer_bias"),
)
"""Of a block, as in blocks.h."""


class Shape(ctypes.Structure):
    """What the blocks of a model have in common; `Shape` of blocks.h."""

    _fields_ = (
        ("d_model", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("kv_heads", ctypes.c_int64),
        ("d_kv", ctypes.c_int64),
        ("d_ff", ctypes.c_int64),
        ("silu", ctypes.c_int64),
        ("epsilon", ctypes.c_double),
    )


class Block(ctypes.Structure):
    """Pointers to the weights of one block; `Block` of blocks.h."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in WEIGHTS)


class Memory(ctypes.Structure):
    """Keys and values of the history in one block; `Memory` of blocks.h."""

    _fields_ = (
        ("key", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("row_step", ctypes.c_int64),
        ("head_step", ctypes.c_int64),
        ("key_step", ctypes.c_int64),
    )


@dataclass(frozen=True)
class Blocks:
    """The weights of some blocks; they live as long as this does."""

    shape: Shape
    pointers: ctypes.Array[Block]
    weights: Sequence[Mapping[str, Tensor]]

    @property
    def step_cost(self) -> int:
        """Of a pass through them, as `Backbone.step_cost`; what streams from memory costs more."""
        num_bytes = sum(
            tensor.numel() * tensor.element_size()
            for block in self.weights
            for tensor in block.values()
        )
        return STREAMED_COST if num_bytes > CACHED_BYTES else -1

    @property
    def addresses(self) -> tuple[int, int]:
        """Of the shape and of the first block."""
        return ctypes.addressof(self.shape), ctypes.addressof(self.pointers)


@dataclass(frozen=True)
class Codes:
    """What the rows of a pass of the decoder see of each other and of earlier ones.

    Args:
        store: (blocks, places, numbers), any distance between blocks: keys and values of codes;
            the pass writes those of its rows.
        begin: place of its first row's.
        seen: (batch, rows, depth) int64, contiguous, places that each row sees; None = its own.
        bias: contiguous; of T5, (1 or rows, depth, heads), else (rows, depth) or None.
    """

    store: Tensor
    begin: int
    seen: Tensor | None
    bias: Tensor | None


def memories(states: Sequence[Tensor]) -> ctypes.Array[Memory]:
    """Of (2, batch, heads, keys, d_kv) per block, contiguous in the last dimension."""
    return (Memory * len(states))(*map(_memory, states))


def _memory(states: Tensor) -> Memory:
    assert states.stride(4) == 1
    values, *steps = states.stride()[:4]
    begin = states.data_ptr()
    return Memory(begin, begin + values * states.element_size(), *steps)


def pointer(tensor: Tensor | None) -> int | None:
    """Of a tensor that may be missing."""
    return None if tensor is None else tensor.data_ptr()
