"""Qwen parts: rotary positions, grouped-query attention, SwiGLU.

Shape words: batch, seq (queries), keys, heads (of queries), kv_heads, d_kv, rows (codes that one
pass reads), depth (codes that a row sees), d_model.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.config import QwenConfig

Turn = tuple[Tensor, Tensor]
"""Cosines and sines of positions, each (batch, seq, 1, d_kv) float32; the same in every block."""


def rotary(positions: Tensor, config: QwenConfig) -> Turn:
    """By what angles the (batch, seq) positions turn queries and keys."""
    pairs = torch.arange(0, config.d_kv, 2, device=positions.device).float() / config.d_kv
    angles = positions[..., None, None].float() * config.rope_theta**-pairs
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(states: Tensor, turn: Turn) -> Tensor:
    """Turn (batch, seq, heads, d_kv) queries or keys by their positions."""
    cos, sin = turn
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (states * cos + turned * sin).to(states.dtype)


class GroupedAttention(nn.Module):
    """Causal attention in which several query heads share one head of keys and values."""

    def __init__(self, config: QwenConfig) -> None:
        super().__init__()
        self.config = config
        width = (config.num_heads + 2 * config.num_kv_heads) * config.d_kv
        self.qkv = nn.Linear(config.d_model, width, bias=config.attention_bias)
        self.out = nn.Linear(config.num_heads * config.d_kv, config.d_model, bias=False)
        self.query_norm = _head_norm(config)
        self.key_norm = _head_norm(config)

    def project(self, hidden: Tensor, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, seq, d_model) -> queries (batch, seq, heads, d_kv), keys, values (kv_heads)."""
        config = self.config
        qkv: Tensor = self.qkv(hidden)
        qkv = qkv.view(*hidden.shape[:2], -1, config.d_kv)
        shares = [config.num_heads, config.num_kv_heads, config.num_kv_heads]
        query, key, value = torch.split(qkv, shares, dim=2)
        query = rotate(self.query_norm(query), turn)
        key = rotate(self.key_norm(key), turn)
        return query * config.d_kv**-0.5, key, value

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Fused attention.

        Args:
            query: (batch, seq, heads, d_kv), scaled.
            key: (batch, kv_heads, keys, d_kv).
            value: same shape as key.
            bias: broadcastable to (batch, heads, seq, keys).

        Returns:
            (batch, seq, d_model).
        """
        if query.device.type != "cpu":  # no fused CUDA kernel takes a bias and fewer heads of keys
            key, value = self.per_query_head(key), self.per_query_head(value)
        grouped = key.shape[1] != query.shape[2]
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), key, value, bias, scale=1.0, enable_gqa=grouped
        )
        return self.join(mixed.transpose(1, 2))

    def weights(self, query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
        """The (batch, heads, seq, keys) float32 weights of that attention."""
        scores = (query.transpose(1, 2) @ self.per_query_head(key).transpose(-1, -2)).add_(bias)
        return scores.softmax(dim=-1, dtype=torch.float32)

    def per_query_head(self, states: Tensor) -> Tensor:
        """(batch, kv_heads, keys, d_kv) keys or values -> (batch, heads, keys, d_kv)."""
        return states.repeat_interleave(self.config.num_heads // self.config.num_kv_heads, dim=1)

    def over_tail(
        self, query: Tensor, memory: Tensor, bias: Tensor, seen: Tensor, hides: Tensor | None
    ) -> Tensor:
        """Attention of every row over the shared prompt and the few codes that it sees.

        Args:
            query: (batch, rows, heads, d_kv), scaled.
            memory: (2, batch, kv_heads, keys, d_kv) of the prompt.
            bias: (batch, 1, 1, keys).
            seen: (batch, rows, depth, 2, kv_heads, d_kv).
            hides: (rows, depth), added to the scores of what is seen; None = nothing is hidden.

        Returns:
            (batch, rows, d_model).
        """
        batch, rows, heads, d_kv = query.shape
        kv_heads, keys = memory.shape[2], memory.shape[3]
        grouped = query.view(batch, rows, kv_heads, -1, d_kv)
        flat = grouped.transpose(1, 2).reshape(batch, kv_heads, -1, d_kv)
        shared = flat @ memory[0].transpose(-1, -2) + bias
        shared = shared.view(batch, kv_heads, rows, -1, keys).transpose(1, 2)
        key, value = seen.movedim(2, -2).unbind(dim=2)  # (batch, rows, kv_heads, depth, d_kv)
        own = (grouped[..., None, :] * key[:, :, :, None]).sum(dim=-1)
        if hides is not None:
            own = own + hides[:, None, None]
        weights = torch.cat((shared, own), dim=-1).softmax(dim=-1, dtype=torch.float32)
        of_prompt, of_codes = weights.to(query.dtype).tensor_split((keys,), dim=-1)
        flat = of_prompt.transpose(1, 2).reshape(batch, kv_heads, -1, keys) @ memory[1]
        mixed = flat.view(batch, kv_heads, rows, -1, d_kv).transpose(1, 2)
        mixed = mixed + (of_codes[..., None] * value[:, :, :, None]).sum(dim=-2)
        return self.join(mixed.reshape(batch, rows, heads, d_kv))

    def join(self, mixed: Tensor) -> Tensor:
        """(..., heads, d_kv) -> (..., d_model)."""
        joined: Tensor = self.out(mixed.flatten(-2))
        return joined


class SwiGlu(nn.Module):
    """The per-token part of a block; gate and input come from one product."""

    def __init__(self, config: QwenConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.d_model, 2 * config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d_model) -> (..., d_model)."""
        gate, up = self.gate_up(hidden).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


def _head_norm(config: QwenConfig) -> nn.Module:
    return nn.RMSNorm(config.d_kv, config.norm_epsilon) if config.qk_norm else nn.Identity()


def initialize(module: nn.Module, num_layers: int) -> None:
    """Small normal weights; what writes into the residual stream is scaled by depth."""
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            deep = name.endswith(("out.weight", "down.weight"))
            std = 0.02 / math.sqrt(2 * num_layers) if deep else 0.02
            nn.init.normal_(parameter, std=std)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
