"""The decoder: predicts one code per level, all levels at once or the next ones of every beam.

Shape words: batch, levels, beams, tokens (codes fed at once), kept (history tokens), d_model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.config import T5Config
from model.layers import (
    CrossAttention,
    FeedForward,
    RelativePositionBias,
    SelfAttention,
    attend_tail,
)


class DecoderBlock(nn.Module):
    """Self-attention over the decoded codes, cross-attention over the history, feed-forward."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.attention = SelfAttention(config)
        self.cross_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.cross = CrossAttention(config)
        self.ff_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.ff = FeedForward(config)

    def forward(self, hidden: Tensor, bias: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        """All levels at once, for training: (batch, levels, d_model) -> the same shape."""
        mixed = self.attention(self.attention_norm(hidden), bias)
        return self._finish(hidden, mixed, memory, memory_bias)

    def step(
        self,
        hidden: Tensor,
        past: Sequence[Tensor],
        bias: Tensor,
        memory: Tensor,
        memory_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The next codes of every beam.

        Args:
            hidden: (batch, beams, tokens, d_model).
            past: of each earlier level, (2, batch, beams or 1, heads, d_kv) keys and values.
            bias: (tokens, earlier levels + tokens, heads).
            memory: (2, batch, heads, kept, d_kv), shared by the beams.
            memory_bias: (batch, 1, 1, kept).

        Returns:
            the new hidden, and these codes' (2, batch, beams, tokens, heads, d_kv) keys and values.
        """
        flat = hidden.flatten(1, 2)
        qkv = self.attention.project(self.attention_norm(flat))
        qkv = qkv.view(3, *hidden.shape[:3], *qkv.shape[3:])
        query, now = qkv[0], qkv[1:]
        mixed = attend_tail(query, now, past, bias)
        mixed = self.attention.out(mixed.flatten(1, 2).flatten(2))
        return self._finish(flat, mixed, memory, memory_bias).view(hidden.shape), now

    def _finish(self, hidden: Tensor, mixed: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        rate, training = self.dropout, self.training
        hidden = hidden + F.dropout(mixed, rate, training)
        crossed = self.cross(self.cross_norm(hidden), memory, memory_bias)
        hidden = hidden + F.dropout(crossed, rate, training)
        return hidden + F.dropout(self.ff(self.ff_norm(hidden)), rate, training)


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
        return tuple(block.cross.memory(encoded) for block in self._decoder_blocks())

    def forward(self, hidden: Tensor, memory: Sequence[Tensor], memory_bias: Tensor) -> Tensor:
        """Teacher-forced: (batch, levels, d_model) embedded inputs -> states, normed."""
        rate, levels = self.config.dropout, hidden.shape[1]
        later = torch.ones(levels, levels, dtype=torch.bool, device=hidden.device).triu(1)
        bias = self.position_bias(levels).masked_fill(later, torch.finfo(hidden.dtype).min / 2)
        hidden = F.dropout(hidden, rate, self.training)
        for block, keys_values in zip(self.blocks, memory, strict=True):
            hidden = block(hidden, bias, keys_values, memory_bias)
        return F.dropout(self.norm(hidden), rate, self.training)

    def step(
        self,
        hidden: Tensor,
        past: Sequence[Tensor],
        memory: Sequence[Tensor],
        memory_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The next codes: (batch, beams, tokens, d_model) -> states, and what to remember.

        Args:
            hidden: embedded newest codes.
            past: of each earlier level, (blocks, 2, batch, beams or 1, heads, d_kv).
            memory: from `memory`.
            memory_bias: (batch, 1, 1, kept).
        """
        tokens = hidden.shape[2]
        length = len(past) + tokens
        bias = self.position_bias(length)[0, :, -tokens:].permute(1, 2, 0)
        remembered = []
        for index, block in enumerate(self._decoder_blocks()):
            earlier = [states[index] for states in past]
            hidden, now = block.step(hidden, earlier, bias, memory[index], memory_bias)
            remembered.append(now)
        return self.norm(hidden), torch.stack(remembered)

    def _decoder_blocks(self) -> list[DecoderBlock]:
        return [block for block in self.blocks if isinstance(block, DecoderBlock)]
