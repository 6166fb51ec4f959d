"""The encoder: reads a history, prunes it once, and hands on the states of the kept tokens.

Shape words: batch, seq (padded history tokens), kept (tokens after the cut), d_model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.config import PruningConfig, T5Config
from model.layers import FeedForward, RelativePositionBias, SelfAttention, drop, mask_bias
from model.pruning import Cut, choose, rows_at_once, token_importance


@dataclass(frozen=True)
class Encoded:
    """What the encoder hands on.

    Args:
        hidden: (batch, kept, d_model), normed.
        mask: (batch, kept) bool, True = real token; never derive it by slicing the old mask.
        cut: which tokens survived; None if nothing was pruned.
    """

    hidden: Tensor
    mask: Tensor
    cut: Cut | None


class EncoderBlock(nn.Module):
    """Self-attention and feed-forward, each on a normed copy, added to the residual stream."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.attention = SelfAttention(config)
        self.ff_norm = nn.RMSNorm(config.d_model, config.norm_epsilon)
        self.ff = FeedForward(config)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """(batch, seq, d_model) -> the same shape."""
        hidden = self.attention(hidden, self.attention_norm(hidden), bias)
        states: Tensor = self.ff(hidden, self.ff_norm(hidden))
        return states

    def forward_with_weights(self, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the attention weights (batch, heads, seq, seq)."""
        normed = self.attention_norm(hidden)
        hidden, weights = self.attention.forward_with_weights(hidden, normed, bias)
        return self.ff(hidden, self.ff_norm(hidden)), weights


class Encoder(nn.Module):
    """Blocks 0..layer see all tokens; the blocks after the cut see the kept ones only."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.num_layers))
        self.position_bias = RelativePositionBias(
            config,
            bidirectional=True,
            max_length=config.max_history_items * config.tokens_per_item,
        )
        self.norm = nn.RMSNorm(config.d_model, config.norm_epsilon)

    def forward(
        self, hidden: Tensor, mask: Tensor, pruning: PruningConfig | None, ratio: float
    ) -> Encoded:
        """Encode embedded tokens.

        Args:
            hidden: (batch, seq, d_model) token embeddings.
            mask: (batch, seq) bool, True = real token, padding on the right.
            pruning: where and how to cut; None = never.
            ratio: retention ratio; 1 = the same computation as no pruning, bit for bit.
        """
        rate = self.config.dropout
        position = self.position_bias(hidden.shape[1])
        bias = position + mask_bias(mask, hidden.dtype)
        hidden = drop(hidden, rate, self.training)
        cut = None
        for index, block in enumerate(self.blocks):
            if pruning is None or ratio >= 1 or index != pruning.layer:
                hidden = block(hidden, bias)
                continue
            assert isinstance(block, EncoderBlock)
            hidden, importance = forward_and_rank(block, hidden, bias, mask, pruning)
            cut = choose(importance, mask, self.config.tokens_per_item, pruning, ratio)
            hidden, mask = cut.gather(hidden), cut.mask
            bias = mask_bias(mask, hidden.dtype)
            if pruning.positions == "keep":
                bias = cut.gather_bias(position) + bias
            else:
                bias = bias.expand(-1, self.config.num_heads, mask.shape[1], -1)
        hidden = drop(self.norm(hidden), rate, self.training)
        return Encoded(hidden, mask, cut)


def forward_and_rank(
    block: EncoderBlock, hidden: Tensor, bias: Tensor, mask: Tensor, pruning: PruningConfig
) -> tuple[Tensor, Tensor]:
    """The block before the cut: its output, and the (batch, seq) importance of each token."""
    rows = rows_at_once(hidden.device, bias[0].numel())
    outputs, importance = [], []
    inputs = (torch.split(each, rows) for each in (hidden, bias, mask))
    for row_hidden, row_bias, row_mask in zip(*inputs, strict=True):
        output, weights = block.forward_with_weights(row_hidden, row_bias)
        outputs.append(output)
        importance.append(token_importance(output.detach(), weights.detach(), row_mask, pruning))
    return torch.cat(outputs), torch.cat(importance)
