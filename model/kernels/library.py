"""Finding and calling the compiled library: every pointer that it is given is made here.

All tensors are float32 unless said otherwise, on the CPU. Shape words: batch, seq (padded history
tokens), rows (codes that one pass reads), depth (codes that a row sees), heads, d_kv, inputs,
outputs.
"""

import ctypes
import functools
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from model.kernels.build import LIBRARIES, library_path
from model.kernels.structures import Block, Blocks, Codes, Shape, memories, pointer

KIND_OF = {"AVX512": "avx512", "AVX2": "avx2"}
"""By what torch calls the processor's abilities; on other machines there is one kind."""


LETTERS = {"n": ctypes.c_int64, "p": ctypes.c_void_p, "x": ctypes.c_double}
SIGNATURES: Mapping[str, tuple[str, type[ctypes.c_int] | type[ctypes.c_int64] | None]] = {
    "stamp_wide": ("", ctypes.c_int),
    "stamp_lanes": ("", ctypes.c_int),
    "stamp_linear": ("nnnppp", None),
    "stamp_norm": ("nnxppp", None),
    "stamp_attention": ("nnnnpppp", ctypes.c_int),
    "stamp_select": ("pppnnnppp", ctypes.c_int64),
    "stamp_t5_encode": ("ppnnnpppnppp", ctypes.c_int),
    "stamp_t5_step": ("ppnpnnppnnpnpnppn", ctypes.c_int),
    "stamp_qwen_read": ("ppnnnppppnppp", ctypes.c_int),
    "stamp_qwen_step": ("ppnpnnppppnnpnpppp", ctypes.c_int),
}
"""Arguments (whole number, pointer, float) and result of each function."""


class Kernels:
    """The functions of one library.

    Args:
        path: of the library.
        kind: of processor.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.kind = kind
        self._library = ctypes.CDLL(str(path))
        for name, (letters, result) in SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes = [LETTERS[letter] for letter in letters]
            function.restype = result
        self.wide = int(self._library.stamp_wide())
        self.lanes = int(self._library.stamp_lanes())

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: there is one library, whoever calls it."""
        return self

    def fits(self, *widths: int) -> bool:
        """Whether it computes states of such widths."""
        return all(width % self.lanes == 0 for width in widths)

    def pack(self, weight: Tensor) -> Tensor:
        """(outputs, inputs) weights of a linear map -> the same numbers in panels of outputs."""
        panels, rest = [], weight.detach().float()
        while len(rest):
            vectors = len(rest) // self.lanes
            width = vectors // -(-vectors // self.wide) * self.lanes  # panel_width of products.h
            panels.append(rest[:width].T.flatten())
            rest = rest[width:]
        return torch.cat(panels)

    def blocks(self, shape: Shape, weights: Sequence[Mapping[str, Tensor]]) -> Blocks:
        """Blocks of these weights, named as in `Block`."""
        pointers = (Block * len(weights))(
            *(
                Block(**{name: tensor.data_ptr() for name, tensor in block.items()})
                for block in weights
            )
        )
        return Blocks(shape, pointers, weights)

    def linear(self, states: Tensor, packed: Tensor, outputs: int) -> Tensor:
        """(..., inputs), contiguous -> (..., outputs)."""
        inputs = states.shape[-1]
        found = states.new_empty(*states.shape[:-1], outputs)
        self._library.stamp_linear(
            *(states.numel() // inputs, inputs, outputs),
            *(states.data_ptr(), packed.data_ptr(), found.data_ptr()),
        )
        return found

    def norm(self, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """RMSNorm of (..., width), contiguous."""
        width, found = states.shape[-1], torch.empty_like(states)
        self._library.stamp_norm(
            *(states.numel() // width, width, epsilon),
            *(states.data_ptr(), weight.data_ptr(), found.data_ptr()),
        )
        return found

    def attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Softmax attention without scale: (..., queries, width) over (..., keys, width)."""
        *heads, queries, width = query.shape
        query, key, value = (each.contiguous() for each in (query, key, value))
        found = torch.empty_like(query)
        failed = self._library.stamp_attention(
            *(math.prod(heads), queries, key.shape[-2], width),
            *(query.data_ptr(), key.data_ptr(), value.data_ptr(), found.data_ptr()),
        )
        if failed:
            raise MemoryError
        return found

    def select(self, *arguments: int) -> int:
        """See selection.py."""
        most = int(self._library.stamp_select(*arguments))
        if most < 0:
            raise MemoryError
        return most

    def t5_encode(
        self,
        blocks: Blocks,
        first: int,
        end: int,
        hidden: Tensor,
        mask: Tensor,
        distances: Tensor | None,
        positions: Tensor | None = None,
        votes: Tensor | None = None,
    ) -> Tensor | None:
        """Run encoder blocks over the real tokens of every history, in place.

        Args:
            blocks: of the encoder.
            first: block to run.
            end: block behind the last to run.
            hidden: (batch, seq, d_model), contiguous; changed, but for padding.
            mask: (batch, seq) bool, True = real token, real ones first.
            distances: (heads, 2 * furthest + 1), the bias of every query position - key position,
                ascending, and slack behind; None = no biases.
            positions: (batch, seq) int64; None = 0, 1, 2, ...
            votes: (batch, seq), what each query's attention weights count; None = not counted.

        Returns:
            (batch, seq): attention that each token received in the last block; None without votes.
        """
        batch, seq, _ = hidden.shape
        shape, begin = blocks.addresses
        assert distances is None or 2 * seq - 1 <= distances.shape[1]
        received = None if votes is None else torch.empty_like(votes)
        failed = self._library.stamp_t5_encode(
            *(shape, begin + first * ctypes.sizeof(Block), end - first),
            *(batch, seq, hidden.data_ptr(), mask.data_ptr()),
            *(pointer(distances), 0 if distances is None else distances.shape[1]),
            *(pointer(positions), pointer(votes), pointer(received)),
        )
        if failed:
            raise MemoryError
        return received

    def t5_step(
        self,
        blocks: Blocks,
        norm: Tensor,
        hidden: Tensor,
        codes: Codes,
        memory: Sequence[Tensor],
        memory_bias: Tensor,
    ) -> None:
        """Run all decoder blocks and the last norm over new codes, in place.

        Args:
            blocks: of the decoder.
            norm: (d_model,), weight of the last norm.
            hidden: (batch, rows, d_model), contiguous, embedded codes; become normed states.
            codes: what they see.
            memory: per block, (2, batch, heads, keys, d_kv), contiguous in the last dimension.
            memory_bias: (batch, 1, 1, keys), contiguous.
        """
        batch, rows, _ = hidden.shape
        assert codes.bias is not None
        read = memories(memory)
        failed = self._library.stamp_t5_step(
            *(*blocks.addresses, len(blocks.weights), norm.data_ptr(), batch, rows),
            *(hidden.data_ptr(), codes.store.data_ptr(), codes.store.stride(0), codes.begin),
            *(pointer(codes.seen), codes.bias.shape[1]),
            *(codes.bias.data_ptr(), codes.bias.shape[0]),
            *(ctypes.addressof(read), memory_bias.data_ptr(), memory_bias.shape[3]),
        )
        if failed:
            raise MemoryError

    def qwen_read(
        self,
        blocks: Blocks,
        first: int,
        end: int,
        hidden: Tensor,
        mask: Tensor,
        turn: tuple[Tensor, Tensor],
        votes: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor | None]:
        """Run blocks of a decoder-only model over the real tokens of every history, in place.

        Args:
            blocks: of the model.
            first: block to run.
            end: block behind the last to run.
            hidden: (batch, seq, d_model), contiguous; changed, but for padding.
            mask: (batch, seq) bool, contiguous, True = real token, real ones first.
            turn: cosines and sines, each (1 or batch, seq, 1, d_kv), contiguous.
            votes: (batch, seq), what each query's attention weights count; None = not counted.

        Returns:
            per block, (2, batch, kv_heads, seq, d_kv) keys and values, 0 for padding; and as
            `t5_encode`.
        """
        batch, seq, _ = hidden.shape
        shape, begin = blocks.addresses
        of_block = (2, batch, blocks.shape.kv_heads, seq, blocks.shape.d_kv)
        found = [hidden.new_empty(of_block) for _ in range(first, end)]
        to = memories(found)
        received = None if votes is None else torch.empty_like(votes)
        failed = self._library.stamp_qwen_read(
            *(shape, begin + first * ctypes.sizeof(Block), end - first, batch, seq),
            *(hidden.data_ptr(), mask.data_ptr(), turn[0].data_ptr(), turn[1].data_ptr()),
            *(len(turn[0]), ctypes.addressof(to), pointer(votes), pointer(received)),
        )
        if failed:
            raise MemoryError
        return found, received

    def qwen_step(
        self,
        blocks: Blocks,
        norm: Tensor,
        hidden: Tensor,
        turn: tuple[Tensor, Tensor],
        codes: Codes,
        memory: Sequence[Tensor],
        biases: Sequence[Tensor],
    ) -> None:
        """Run all blocks of a decoder-only model and the last norm over new codes, in place.

        Args:
            blocks: of the model.
            norm: (d_model,), weight of the last norm.
            hidden: (batch, rows, d_model), contiguous, embedded codes; become normed states.
            turn: cosines and sines, each (batch, rows, 1, d_kv), contiguous.
            codes: what they see of each other.
            memory: per block, (2, batch, kv_heads, keys, d_kv), contiguous in the last dimension.
            biases: per block, (batch, 1, 1, keys), contiguous.
        """
        batch, rows, _ = hidden.shape
        assert codes.seen is not None
        read = memories(memory)
        bias = (ctypes.c_void_p * len(biases))(*(each.data_ptr() for each in biases))
        keys = (ctypes.c_int64 * len(biases))(*(each.shape[3] for each in biases))
        failed = self._library.stamp_qwen_step(
            *(*blocks.addresses, len(blocks.weights), norm.data_ptr(), batch, rows),
            *(hidden.data_ptr(), turn[0].data_ptr(), turn[1].data_ptr()),
            *(codes.store.data_ptr(), codes.store.stride(0), codes.begin),
            *(codes.seen.data_ptr(), codes.seen.shape[2], pointer(codes.bias)),
            *(ctypes.addressof(read), ctypes.addressof(bias), ctypes.addressof(keys)),
        )
        if failed:
            raise MemoryError


@functools.cache
def find(folder: Path = LIBRARIES) -> Kernels | None:
    """The library for this processor, if it is compiled from today's files."""
    ability = torch.backends.cpu.get_cpu_capability()
    kind = KIND_OF.get(ability) if platform.machine() == "x86_64" else "neon"
    if kind is None or not library_path(kind, folder).exists():
        return None
    try:
        return Kernels(library_path(kind, folder), kind)
    except OSError:  # compiled for another system, e.g. another C library
        return None
