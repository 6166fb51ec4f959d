"""T5 parts: relative position bias, attention, feed-forward.

Shape words: batch, heads, seq (queries), keys, d_model, d_kv (width of one head), rows (codes that
one pass reads), depth (codes that a row sees). Attention biases are additive: 0 or a learned number
where a query may look, `hidden_bias` where it may not. T5 does not scale its scores by sqrt(d_kv).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.config import T5Config
from model.packed import PackedLinear


def mask_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, keys) bool, True = real -> (batch, 1, 1, keys): 0, or a number that hides a key."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill(~mask, torch.finfo(dtype).min / 2)[:, None, None, :]


def relative_bucket(
    distance: Tensor, *, bidirectional: bool, buckets: int, furthest: int
) -> Tensor:
    """T5's bucket of key position minus query position: exact when near, logarithmic when far.

    Args:
        distance: int64, any shape.
        bidirectional: half of the buckets are for keys to the right; else those are all bucket 0.
        buckets: number of buckets.
        furthest: distances from here on share the last bucket.
    """
    offset = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        offset = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = -distance.clamp(max=0)
    exact = buckets // 2
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(furthest / exact)
    far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


class RelativePositionBias(nn.Module):
    """One learned number per head and distance bucket, added to every block's scores."""

    buckets: Tensor
    made: Tensor | None

    def __init__(self, config: T5Config, *, bidirectional: bool, max_length: int) -> None:
        super().__init__()
        self.table = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)
        position = torch.arange(max_length)
        buckets = relative_bucket(
            position[None, :] - position[:, None],
            bidirectional=bidirectional,
            buckets=config.relative_attention_num_buckets,
            furthest=config.relative_attention_max_distance,
        )
        self.register_buffer("buckets", buckets, persistent=False)
        self.register_buffer("made", None, persistent=False)

    def forward(self, length: int) -> Tensor:
        """(1, heads, length, length)."""
        if self.made is not None:
            return self.made[:, :, :length, :length]
        bias: Tensor = self.table(self.buckets[:length, :length])
        return bias.permute(2, 0, 1)[None].contiguous()

    def make(self) -> None:
        """Look everything up once and for all: the table must not change any more."""
        self.made = self(len(self.buckets)).detach()


def drop(states: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout; outside training nothing, without asking torch to do nothing."""
    return F.dropout(states, rate) if training else states


def added(linear: nn.Module, states: Tensor, hidden: Tensor, rate: float, training: bool) -> Tensor:
    """`hidden` plus the linear map of the states, of which training drops some."""
    if isinstance(linear, PackedLinear):
        return linear.add(states, hidden)
    return hidden + drop(linear(states), rate, training)


def rectified(linear: nn.Module, states: Tensor) -> Tensor:
    """ReLU of the linear map of the states."""
    return linear.relu(states) if isinstance(linear, PackedLinear) else F.relu(linear(states))


class SelfAttention(nn.Module):
    """Multi-head attention of a row over itself, added to the residual stream.

    Queries, keys and values come from one product.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.num_heads, self.d_kv, self.dropout = config.num_heads, config.d_kv, config.dropout
        width = config.num_heads * config.d_kv
        self.qkv = nn.Linear(config.d_model, 3 * width, bias=False)
        self.out = nn.Linear(width, config.d_model, bias=False)
        std = config.d_model**-0.5
        nn.init.normal_(self.qkv.weight, std=std)
        nn.init.normal_(self.qkv.weight.data[:width], std=std * config.d_kv**-0.5)
        nn.init.normal_(self.out.weight, std=width**-0.5)

    def project(self, hidden: Tensor) -> Tensor:
        """(batch, seq, d_model) -> (3, batch, seq, heads, d_kv): queries, keys, values."""
        qkv: Tensor = self.qkv(hidden)
        return qkv.view(*hidden.shape[:2], 3, self.num_heads, self.d_kv).movedim(2, 0)

    def forward(self, hidden: Tensor, normed: Tensor, bias: Tensor) -> Tensor:
        """Add what a row says to itself.

        Args:
            hidden: (batch, seq, d_model), the residual stream.
            normed: the same, normed.
            bias: (batch or 1, heads, seq, seq).

        Returns:
            (batch, seq, d_model).
        """
        query, key, value = self.project(normed).transpose(2, 3)
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, bias, rate, scale=1.0)
        return self.join(hidden, mixed)

    def forward_with_weights(
        self, hidden: Tensor, normed: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same, and the (batch, heads, seq, seq) float32 weights before dropout."""
        query, key, value = self.project(normed).transpose(2, 3)
        scores = (query @ key.transpose(-1, -2)).add_(bias)  # in place: it is by far the largest
        weights = scores.softmax(dim=-1, dtype=torch.float32)
        mixed = drop(weights.to(value.dtype), self.dropout, self.training) @ value
        return self.join(hidden, mixed), weights

    def step(
        self, hidden: Tensor, normed: Tensor, store: Tensor, seen: Tensor | None, bias: Tensor
    ) -> Tensor:
        """Attention of new codes over themselves and earlier ones; see DecoderBlock.step."""
        batch, rows, _ = hidden.shape
        width = self.num_heads * self.d_kv
        query, now = self.qkv(normed).tensor_split((width,), dim=2)
        store[-batch * rows :] = now.flatten(0, 1)
        if seen is None:
            mixed = now[..., width:]
        else:
            shape = (batch, rows, -1, 2, self.num_heads, self.d_kv)
            codes = store.index_select(0, seen).view(shape)
            mixed = attend_seen(query.unflatten(2, shape[-2:]), codes, bias).flatten(2)
        return added(self.out, mixed, hidden, self.dropout, self.training)

    def join(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """(batch, seq, d_model) and (batch, heads, seq, d_kv) -> (batch, seq, d_model)."""
        return added(
            self.out, mixed.transpose(1, 2).flatten(2), hidden, self.dropout, self.training
        )


class CrossAttention(nn.Module):
    """Attention of decoder states over encoder states, added to the residual stream.

    Keys and values of the encoder states are made once.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.num_heads, self.d_kv, self.dropout = config.num_heads, config.d_kv, config.dropout
        width = config.num_heads * config.d_kv
        self.query = nn.Linear(config.d_model, width, bias=False)
        self.key_value = nn.Linear(config.d_model, 2 * width, bias=False)
        self.out = nn.Linear(width, config.d_model, bias=False)
        std = config.d_model**-0.5
        nn.init.normal_(self.query.weight, std=std * config.d_kv**-0.5)
        nn.init.normal_(self.key_value.weight, std=std)
        nn.init.normal_(self.out.weight, std=width**-0.5)

    def memory(self, encoded: Tensor) -> Tensor:
        """(batch, keys, d_model) -> (2, batch, heads, keys, d_kv): keys and values."""
        both: Tensor = self.key_value(encoded)
        return both.view(*encoded.shape[:2], 2, self.num_heads, self.d_kv).permute(2, 0, 3, 1, 4)

    def forward(self, hidden: Tensor, normed: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        """(batch, seq or rows, d_model): every row of a history reads the same memory."""
        query: Tensor = self.query(normed)
        query = query.view(*hidden.shape[:2], self.num_heads, self.d_kv).transpose(1, 2)
        key, value = memory.unbind(0)
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, bias, rate, scale=1.0)
        return added(
            self.out, mixed.transpose(1, 2).flatten(2), hidden, self.dropout, self.training
        )


def attend_seen(query: Tensor, seen: Tensor, bias: Tensor) -> Tensor:
    """Attention of every row over the few codes that it sees.

    Args:
        query: (batch, rows, heads, d_kv).
        seen: (batch, rows, depth, 2, heads, d_kv), keys and values.
        bias: (depth, heads) or (rows, depth, heads).

    Returns:
        (batch, rows, heads, d_kv).
    """
    key, value = seen.unbind(dim=3)
    scores = (query[:, :, None] * key).sum(dim=-1) + bias
    weights = scores.softmax(dim=2, dtype=torch.float32).to(query.dtype)
    return (weights[..., None] * value).sum(dim=2)


class FeedForward(nn.Module):
    """The per-token part of a block, added to the residual stream.

    ReLU, gated GELU, or GRID's two-layer ReLU with biases.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.dropout = config.dropout
        deep = config.mlp_layers == 2
        self.inner = nn.Linear(config.d_model, config.d_ff, bias=deep)
        self.middle = nn.Linear(config.d_ff, config.d_ff) if deep else None
        gated = config.feed_forward == "gated"
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False) if gated else None
        self.outer = nn.Linear(config.d_ff, config.d_model, bias=deep)
        for layer, fan_in in ((self.inner, config.d_model), (self.outer, config.d_ff)):
            nn.init.normal_(layer.weight, std=fan_in**-0.5)
        if self.gate is not None:
            nn.init.normal_(self.gate.weight, std=config.d_model**-0.5)

    def forward(self, hidden: Tensor, normed: Tensor) -> Tensor:
        """The residual stream and the same normed, both (..., d_model) -> (..., d_model)."""
        if self.gate is not None:
            inner = F.gelu(self.gate(normed), approximate="tanh") * self.inner(normed)
        else:
            inner = rectified(self.inner, normed)
        if self.middle is not None:
            inner = rectified(self.middle, drop(inner, self.dropout, self.training))
        inner = drop(inner, self.dropout, self.training)
        return added(self.outer, inner, hidden, self.dropout, self.training)
