"""T5's encoder and decoder as calls of compiled code, for serving on a CPU in float32.

They stand for `Encoder` and `Decoder` in a model that is not trained any more. Shape words: batch,
seq (padded history tokens), kept, rows (codes that one pass reads), depth, levels, d_model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.backbone import Step
from model.config import PruningConfig, T5Config
from model.decoder import Decoder, DecoderBlock, bias_of_rows
from model.encoder import Encoded, Encoder, EncoderBlock
from model.kernels.library import Kernels
from model.kernels.structures import Blocks, Codes
from model.layers import RelativePositionBias
from model.native_check import agree, can_compute, shape_of, tried
from model.pruning import choose, importance_of, votes_of
from model.t5 import T5


def to_native(model: T5, kernels: Kernels) -> T5 | None:
    """The model with compiled blocks, if they compute the same; None, and unchanged, if not."""
    if not can_compute(model.config, kernels):
        return None
    assert isinstance(model.encoder, Encoder)
    assert isinstance(model.decoder, Decoder)
    expected, parts = tried(model), {"encoder": model.encoder, "decoder": model.decoder}
    decoder = NativeDecoder(model.decoder, kernels)
    model.add_module("encoder", NativeEncoder(model.encoder, kernels))
    model.add_module("decoder", decoder)
    if agree(tried(model), expected):
        model.step_cost = decoder.blocks.step_cost
        return model
    for name, part in parts.items():
        model.add_module(name, part)
    return None


class NativeEncoder(nn.Module):
    """See Encoder; padding is not computed at all."""

    def __init__(self, encoder: Encoder, kernels: Kernels) -> None:
        super().__init__()
        self.config = encoder.config
        self.kernels = kernels
        self.blocks = _blocks(encoder, encoder.config, kernels)
        self.distances = _distances(encoder.position_bias, kernels)
        self.norm = encoder.norm.weight.detach().clone()

    def forward(
        self, hidden: Tensor, mask: Tensor, pruning: PruningConfig | None, ratio: float
    ) -> Encoded:
        """See Encoder.forward."""
        hidden, mask = hidden.clone(memory_format=torch.contiguous_format), mask.contiguous()
        end, cut, distances = len(self.blocks.weights), None, self.distances
        layer = end if pruning is None or ratio >= 1 else pruning.layer
        self.kernels.t5_encode(self.blocks, 0, layer, hidden, mask, distances)
        if pruning is not None and layer < end:
            votes = votes_of(mask, pruning)
            received = self.kernels.t5_encode(
                self.blocks, layer, layer + 1, hidden, mask, distances, votes=votes
            )
            assert received is not None
            importance = importance_of(hidden, received, mask, pruning)
            cut = choose(importance, mask, self.config.tokens_per_item, pruning, ratio)
            hidden, mask = cut.gather(hidden), cut.mask
            after = (distances, cut.indices) if pruning.positions == "keep" else (None, None)
            self.kernels.t5_encode(self.blocks, layer + 1, end, hidden, mask, *after)
        return Encoded(self.kernels.norm(hidden, self.norm, self.config.norm_epsilon), mask, cut)


class NativeDecoder(nn.Module):
    """See Decoder."""

    def __init__(self, decoder: Decoder, kernels: Kernels) -> None:
        super().__init__()
        self.config = decoder.config
        self.kernels = kernels
        self.blocks = _blocks(decoder, decoder.config, kernels)
        self.memories = tuple(
            kernels.pack(block.cross.key_value.weight) for block in decoder.decoder_blocks()
        )
        self.norm = decoder.norm.weight.detach().clone()
        levels = self.config.num_levels
        self.causal_bias = decoder.causal_bias(levels).detach()
        self.newest = [self.causal_bias[None, depth, : depth + 1] for depth in range(levels)]

    def memory(self, encoded: Tensor) -> tuple[Tensor, ...]:
        """See Decoder.memory."""
        config, both = self.config, 2 * self.config.num_heads * self.config.d_kv
        shape = (*encoded.shape[:2], 2, config.num_heads, config.d_kv)
        encoded = encoded.contiguous()
        return tuple(
            self.kernels.linear(encoded, packed, both).view(shape).permute(2, 0, 3, 1, 4)
            for packed in self.memories
        )

    def forward(self, hidden: Tensor, memory: Sequence[Tensor], memory_bias: Tensor) -> Tensor:
        """See Decoder.forward; teacher-forced."""
        batch, levels, _ = hidden.shape
        seen = torch.arange(batch * levels).view(batch, 1, levels).expand(-1, levels, -1)
        bias = self.causal_bias[:levels, :levels]
        store = self._store(hidden)
        return self._run(hidden, store, 0, seen, bias, memory, memory_bias)

    def start(
        self, hidden: Tensor, memory: Sequence[Tensor], memory_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See Decoder.start."""
        store = self._store(hidden)
        states = self._run(hidden, store, 0, None, self.newest[0], memory, memory_bias)
        return states, store

    def step(
        self, hidden: Tensor, step: Step, memory: Sequence[Tensor], memory_bias: Tensor
    ) -> Tensor:
        """See Decoder.step."""
        depth = step.seen.shape[2]
        bias = self.newest[depth - 1]
        if len(step.codes) > 1:
            bias = bias_of_rows(self.causal_bias[:depth, :depth], step)
        return self._run(hidden, step.store, step.begin, step.seen, bias, memory, memory_bias)

    def _store(self, hidden: Tensor) -> Tensor:
        numbers = 2 * self.config.num_heads * self.config.d_kv
        return hidden.new_empty(
            len(self.blocks.weights), hidden.shape[0] * hidden.shape[1], numbers
        )

    def _run(
        self,
        hidden: Tensor,
        store: Tensor,
        begin: int,
        seen: Tensor | None,
        bias: Tensor,
        memory: Sequence[Tensor],
        memory_bias: Tensor,
    ) -> Tensor:
        states = hidden.clone(memory_format=torch.contiguous_format)
        seen = None if seen is None else seen.contiguous()
        codes = Codes(store, begin, seen, bias.contiguous())
        self.kernels.t5_step(
            self.blocks, self.norm, states, codes, memory, memory_bias.contiguous()
        )
        return states


def _blocks(part: Encoder | Decoder, config: T5Config, kernels: Kernels) -> Blocks:
    """Pack the weights of all blocks."""
    shape = shape_of(config, config.num_heads, silu=False)
    found = []
    for block in part.blocks:
        assert isinstance(block, EncoderBlock | DecoderBlock)
        packed = {name: kernels.pack(weight) for name, weight in _weights(block).items()}
        found.append(packed | _offsets(block))
    return kernels.blocks(shape, found)


def _weights(block: EncoderBlock | DecoderBlock) -> dict[str, Tensor]:
    """Of linear maps, by the names of the library; readers of a norm take over its weights."""
    attention, ff = block.attention, block.ff
    width = attention.out.in_features
    qkv = attention.qkv.weight * block.attention_norm.weight
    found = {"query": qkv[:width], "key_value": qkv[width:], "out": attention.out.weight}
    if isinstance(block, DecoderBlock):
        found["cross_query"] = block.cross.query.weight * block.cross_norm.weight
        found["cross_out"] = block.cross.out.weight
    found["inner"] = ff.inner.weight * block.ff_norm.weight
    found["outer"] = ff.outer.weight
    if ff.gate is not None:
        found["gate"] = ff.gate.weight * block.ff_norm.weight
    if ff.middle is not None:
        found["middle"] = ff.middle.weight
    return found


def _offsets(block: EncoderBlock | DecoderBlock) -> dict[str, Tensor]:
    """Of the linear maps that have them."""
    ff = block.ff
    linears = {"inner_bias": ff.inner, "middle_bias": ff.middle, "outer_bias": ff.outer}
    return {
        name: linear.bias.detach().clone()
        for name, linear in linears.items()
        if linear is not None and linear.bias is not None
    }


def _distances(position_bias: RelativePositionBias, kernels: Kernels) -> Tensor:
    """(heads, 2 * longest - 1): the bias of each query position - key position, ascending."""
    bias = position_bias(len(position_bias.buckets)).detach()[0]
    numbers = torch.cat((bias[:, 0, 1:].flip(1), bias[:, :, 0]), dim=1)
    room = F.pad(numbers.flatten(), (0, kernels.lanes))
    return room[: numbers.numel()].view(numbers.shape)
