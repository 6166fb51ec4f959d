"""The decoder: predicts one code per level, all levels at once or the next ones of every beam.

Shape words: batch, levels, rows (codes that one pass reads), depth (codes that a row sees), kept
(history tokens), d_model; numbers: the keys of one code, then its values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.backbone import Step
from model.config import T5Config
from model.layers import (
    CrossAttention,
    FeedForward,
    RelativePositionBias,
    SelfAttention,
    drop,
)


class DecoderBlock(nn.Module):
    """Self-attention over the decoded codes, cross-attention over the history, feed-forward."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.attention = SelfAttention(config)
        self.cross_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.cross = CrossAttention(config)
        self.ff_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.ff = FeedForward(config)

    def forward(self, hidden: Tensor, bias: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        """All levels at once, for training: (batch, levels, d_model) -> the same shape."""
        hidden = self.attention(hidden, self.attention_norm(hidden), bias)
        return self._finish(hidden, memory, memory_bias)

    def step(
        self,
        hidden: Tensor,
        store: Tensor,
        seen: Tensor | None,
        bias: Tensor,
        memory: Tensor,
        memory_bias: Tensor,
    ) -> Tensor:
        """The next codes.

        Args:
            hidden: (batch, rows, d_model).
            store: (places, numbers) of this block; the rows' own places come last.
            seen: (batch * rows * depth,) int64 places that each row sees; None = itself alone.
            bias: (depth, heads), or a number for each row: (rows, depth, heads).
            memory: (2, batch, heads, kept, d_kv), shared by the rows of a history.
            memory_bias: (batch, 1, 1, kept).
        """
        hidden = self.attention.step(hidden, self.attention_norm(hidden), store, seen, bias)
        return self._finish(hidden, memory, memory_bias)

    def _finish(self, hidden: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        hidden = self.cross(hidden, self.cross_norm(hidden), memory, memory_bias)
        states: Tensor = self.ff(hidden, self.ff_norm(hidden))
        return states


class Decoder(nn.Module):
    """Reads BOS and the codes so far; its state at level m predicts the code of level m."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.num_decoder_layers))
        self.position_bias = RelativePositionBias(
            config, bidirectional=False, max_length=config.num_levels
        )
        self.norm = nn.RMSNorm(config.d_model, config.norm_epsilon)

    def memory(self, encoded: Tensor) -> tuple[Tensor, ...]:
        """Per block, the keys and values of the history, made once per request."""
        return tuple(block.cross.memory(encoded) for block in self.decoder_blocks())

    def forward(self, hidden: Tensor, memory: Sequence[Tensor], memory_bias: Tensor) -> Tensor:
        """Teacher-forced: (batch, levels, d_model) embedded inputs -> states, normed."""
        rate, levels = self.config.dropout, hidden.shape[1]
        bias = self.causal_bias(levels).permute(2, 0, 1)[None]
        hidden = drop(hidden, rate, self.training)
        for block, keys_values in zip(self.blocks, memory, strict=True):
            hidden = block(hidden, bias, keys_values, memory_bias)
        return drop(self.norm(hidden), rate, self.training)

    def start(
        self, hidden: Tensor, memory: Sequence[Tensor], memory_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """BOS alone: (batch, 1, d_model) -> states, and (blocks, batch, numbers) to remember."""
        numbers = 2 * self.config.num_heads * self.config.d_kv
        store = hidden.new_empty(len(self.blocks), hidden.shape[0], numbers)
        for index, block in enumerate(self.decoder_blocks()):
            hidden = block.step(hidden, store[index], None, hidden, memory[index], memory_bias)
        states: Tensor = self.norm(hidden)
        return states, store

    def step(
        self, hidden: Tensor, step: Step, memory: Sequence[Tensor], memory_bias: Tensor
    ) -> Tensor:
        """The next codes; their keys and values go to the step's store.

        Args:
            hidden: (batch, rows, d_model), the embedded codes.
            step: what they see.
            memory: from `memory`.
            memory_bias: (batch, 1, 1, kept).

        Returns:
            (batch, rows, d_model) states, normed.
        """
        store = step.store[:, : step.begin + hidden.shape[0] * hidden.shape[1]]
        seen, bias = step.seen.flatten(), self._step_bias(step)
        for index, block in enumerate(self.decoder_blocks()):
            hidden = block.step(hidden, store[index], seen, bias, memory[index], memory_bias)
        normed: Tensor = self.norm(hidden)
        return normed

    def _step_bias(self, step: Step) -> Tensor:
        """(depth, heads), or (rows, depth, heads) where codes of several levels are read."""
        depth = step.seen.shape[2]
        if len(step.codes) == 1:
            newest: Tensor = self.position_bias(depth)[0, :, -1].T
            return newest
        return bias_of_rows(self.causal_bias(depth), step)

    def causal_bias(self, levels: int) -> Tensor:
        """(queries, keys, heads): by distance; later keys are hidden."""
        bias: Tensor = self.position_bias(levels)[0].permute(1, 2, 0)
        later = torch.ones(levels, levels, dtype=torch.bool, device=bias.device).triu(1)
        return bias.masked_fill(later[..., None], torch.finfo(bias.dtype).min / 2)

    def decoder_blocks(self) -> list[DecoderBlock]:
        """The blocks, by their own type."""
        return [block for block in self.blocks if isinstance(block, DecoderBlock)]


def bias_of_rows(causal_bias: Tensor, step: Step) -> Tensor:
    """(rows, depth, heads) of a pass that reads codes of several levels, from `causal_bias`."""
    each = [
        causal_bias[step.level + age].expand(rows, -1, -1) for age, rows in enumerate(step.counts)
    ]
    return torch.cat(each)
