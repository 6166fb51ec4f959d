"""A decoder-only model whose blocks are calls of compiled code, for serving on a CPU in float32.

Shape words: batch, seq (padded history tokens), rows (codes that one pass reads), depth (codes that
a row sees), levels, d_model.
"""

from dataclasses import replace

import torch
from torch import Tensor

from model.backbone import Backbone, Prompt, Step
from model.kernels.library import Kernels
from model.kernels.structures import Blocks, Codes
from model.layers import mask_bias
from model.native_check import agree, can_compute, shape_of, tried
from model.pruning import Cut, choose, importance_of, votes_of
from model.qwen import Qwen, QwenBlock, Stream, behind, hides_of, places_of
from model.qwen_layers import GroupedAttention, rotary


def to_native(model: Qwen, kernels: Kernels) -> "NativeQwen | None":
    """The same model with compiled blocks, if they compute the same; None if they cannot."""
    if not can_compute(model.config, kernels):
        return None
    found = NativeQwen(model, kernels)
    return found if agree(tried(found), tried(model)) else None


class NativeQwen(Qwen):
    """See Qwen; padding is not computed at all.

    Args:
        model: in eval mode; its embeddings, last norm and scores of codes are shared.
        kernels: the compiled code.
    """

    def __init__(self, model: Qwen, kernels: Kernels) -> None:
        Backbone.__init__(self, model.config)
        self.kernels = self.compiled = kernels
        self.embedding, self.outputs = model.embedding, model.outputs
        self.norm, self.text_embedding = model.norm, model.text_embedding
        self.register_buffer("prefix", model.prefix, persistent=False)
        self.native = _blocks(model, kernels)
        self.step_cost = self.native.step_cost
        config = model.config
        longest = len(config.prefix_tokens) + config.max_history_items * config.tokens_per_item
        positions = torch.arange(longest + config.num_levels)
        self.turns = tuple(angles[0] for angles in rotary(positions[None], config))
        self.eval()

    def decode(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """See Backbone; the codes but the last are read in one pass."""
        assert prompt.last is not None
        first, length = prompt.last
        batch, answer = len(codes), codes.shape[1] - 1
        if answer == 0:
            return first
        hidden: Tensor = self.embedding((codes + self.first_tokens)[:, :-1])
        places = torch.arange(batch * answer).view(batch, 1, answer)
        later = torch.ones(answer, answer, dtype=torch.bool).triu(1)
        hides = torch.zeros(answer, answer).masked_fill(later, torch.finfo(torch.float32).min / 2)
        seen = places.expand(-1, answer, -1).contiguous()
        store = hidden.new_empty(len(self.native.weights), batch * answer, self._numbers())
        positions = length + torch.arange(answer)
        states = self._pass(prompt, hidden, positions, Codes(store, 0, seen, hides))
        return torch.cat((first, states), dim=1)

    def step(self, prompt: Prompt, step: Step) -> Tensor:
        """See Backbone."""
        assert prompt.last is not None
        hidden: Tensor = self.embedding(self.tokens(step))
        positions = prompt.last[1] + places_of(step, hidden.device)
        codes = Codes(step.store, step.begin, step.seen.contiguous(), hides_of(step, hidden.dtype))
        return self._pass(prompt, hidden, positions, codes)

    def _pass(self, prompt: Prompt, hidden: Tensor, positions: Tensor, codes: Codes) -> Tensor:
        """(batch, rows, d_model) embedded codes at (batch, rows) positions -> normed states."""
        biases = [bias.contiguous() for bias in prompt.biases]
        self.compiled.qwen_step(
            self.native,
            self.norm.weight,
            hidden,
            self._turn(positions),
            codes,
            prompt.memory,
            biases,
        )
        return hidden

    def _read(
        self, tokens: Tensor, mask: Tensor, ratio: float
    ) -> tuple[Stream, list[Tensor], list[Tensor], Cut | None]:
        """See Qwen."""
        stream = self._begin(tokens, mask)
        positions, prefix, pruning = stream.positions, len(self.prefix), self.config.pruning
        end = len(self.native.weights)
        if pruning is None or ratio >= 1:
            stream, memory, biases, _ = self._run(stream, 0, end, positions[:1])
            return stream, memory, biases, None
        layer = pruning.layer
        stream, memory, biases, _ = self._run(stream, 0, layer, positions[:1])
        votes = votes_of(stream.mask, pruning)
        stream, more, more_biases, received = self._run(
            stream, layer, layer + 1, positions[:1], votes
        )
        importance = importance_of(stream.hidden, received, stream.mask, pruning)[:, prefix:]
        cut = choose(importance, mask, self.config.tokens_per_item, pruning, ratio)
        stream = stream.cut(behind(prefix, cut))
        if pruning.positions == "reset":
            stream = replace(stream, positions=positions[:, : stream.mask.shape[1]])
        stream, rest, rest_biases, _ = self._run(stream, layer + 1, end, stream.positions)
        return stream, memory + more + rest, biases + more_biases + rest_biases, cut

    def _run(
        self, stream: Stream, first: int, end: int, positions: Tensor, votes: Tensor | None = None
    ) -> tuple[Stream, list[Tensor], list[Tensor], Tensor | None]:
        """Blocks `first` to `end`: the stream behind them, their memory, its biases, received."""
        hidden = stream.hidden.clone(memory_format=torch.contiguous_format)
        memory, received = self.compiled.qwen_read(
            self.native, first, end, hidden, stream.mask, self._turn(positions), votes
        )
        padding = mask_bias(stream.mask, hidden.dtype)
        return replace(stream, hidden=hidden), memory, [padding] * (end - first), received

    def _turn(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of (batch, rows) positions, as `rotary` computes them."""
        shape = (*positions.shape, 1, self.config.d_kv)
        cosines, sines = (
            angles.index_select(0, positions.flatten()).view(shape) for angles in self.turns
        )
        return cosines, sines

    def _numbers(self) -> int:
        """Keys and values of one code."""
        return 2 * self.config.num_kv_heads * self.config.d_kv


def _blocks(model: Qwen, kernels: Kernels) -> Blocks:
    """Pack the weights of all blocks; those that read a norm take over its weights."""
    config = model.config
    shape = shape_of(config, config.num_kv_heads, silu=True)
    found = []
    for block in model.blocks:
        assert isinstance(block, QwenBlock)
        packed = {name: kernels.pack(weight) for name, weight in _weights(block).items()}
        found.append(packed | _head_weights(block.attention))
    return kernels.blocks(shape, found)


def _weights(block: QwenBlock) -> dict[str, Tensor]:
    """Of linear maps, by the names of the library; readers of a norm take over its weights."""
    attention = block.attention
    width = attention.out.in_features
    qkv = attention.qkv.weight * block.attention_norm.weight
    gate, up = (block.ff.gate_up.weight * block.ff_norm.weight).chunk(2)
    return {
        "query": qkv[:width] * _scale(attention),
        "key_value": qkv[width:],
        "out": attention.out.weight,
        "gate": gate,
        "inner": up,
        "outer": block.ff.down.weight,
    }


def _head_weights(attention: GroupedAttention) -> dict[str, Tensor]:
    """Offsets of queries, keys and values, and the norms of heads, where there are any."""
    found: dict[str, Tensor] = {}
    if attention.qkv.bias is not None:
        query, key_value = attention.qkv.bias.tensor_split((attention.out.in_features,))
        found |= {"query_bias": query * _scale(attention), "key_value_bias": key_value}
    if isinstance(attention.query_norm, torch.nn.RMSNorm):
        found["query_norm"] = attention.query_norm.weight * attention.config.d_kv**-0.5
    if isinstance(attention.key_norm, torch.nn.RMSNorm):
        found["key_norm"] = attention.key_norm.weight
    return {name: weight.detach().clone() for name, weight in found.items()}


def _scale(attention: GroupedAttention) -> float:
    """Of queries; where they are normed, the norm's weights take it over."""
    return 1.0 if attention.config.qk_norm else float(attention.config.d_kv**-0.5)
