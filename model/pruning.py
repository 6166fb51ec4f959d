"""Semantic Adaptive Pruning: which tokens of a history survive, and how they are gathered.

Shape words: batch, heads, seq (padded length), kept (length after the cut), d_model. Everything
here is free of host synchronisation: the length after the cut depends on shapes alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import PruningConfig

CACHED_BYTES = 2 << 20  # room for attention weights: what the second-level cache of a core holds


@dataclass(frozen=True)
class Cut:
    """The tokens that stay.

    Args:
        indices: (batch, kept) int64, ascending positions in the uncut row.
        mask: (batch, kept) bool, True = a kept token, False = filler.
    """

    indices: Tensor
    mask: Tensor

    def gather(self, hidden: Tensor) -> Tensor:
        """(batch, seq, d_model) -> (batch, kept, d_model)."""
        return hidden.gather(1, self.indices[..., None].expand(-1, -1, hidden.shape[-1]))

    def gather_bias(self, bias: Tensor) -> Tensor:
        """(batch or 1, heads, seq, seq) position bias -> (batch, heads, kept, kept).

        The kept tokens keep their true distances: rows and columns are picked, not recomputed.
        """
        batch, kept = self.indices.shape
        heads, seq = bias.shape[1], bias.shape[-1]
        flat = self.indices[:, :, None] * seq + self.indices[:, None, :]
        flat = flat.view(batch, 1, kept * kept).expand(-1, heads, -1)
        picked = bias.flatten(2).expand(batch, -1, -1).gather(2, flat)
        return picked.view(batch, heads, kept, kept)


def token_importance(
    hidden: Tensor, attention: Tensor, mask: Tensor, config: PruningConfig
) -> Tensor:
    """Score each token: attention received times the norm of its state (arXiv:2604.05329, SAP).

    S_attn(i) is the sum over heads and queries of A[h, j, i]; S_sem(i) the L1 norm of state i;
    the importance is their product, in float32.

    Args:
        hidden: (batch, seq, d_model), output of the block before the cut.
        attention: (batch, heads, seq, seq), weights of that block; each query row sums to 1.
        mask: (batch, seq) bool, True = real token.
        config: which score, which norm, and whether padded queries vote.

    Returns:
        (batch, seq) float32. Padding scores -inf and, as a query, adds nothing to real tokens
        unless config.count_padding says so.
    """
    received = None
    if config.score in ("product", "attention"):
        received = attention_received(attention, mask, config)
    return importance_of(hidden, received, mask, config)


def importance_of(
    hidden: Tensor, received: Tensor | None, mask: Tensor, config: PruningConfig
) -> Tensor:
    """The same from the attention that each token received.

    Args:
        hidden: (batch, seq, d_model), output of the block before the cut.
        received: (batch, seq) S_attn; None if the score does not depend on it.
        mask: (batch, seq) bool, True = real token.
        config: which score, and which norm.
    """
    if config.score == "random":
        importance = torch.rand(mask.shape, device=mask.device)
    elif config.score == "recent":
        importance = torch.arange(mask.shape[1], device=mask.device).float().expand(mask.shape)
    else:
        importance = torch.ones(mask.shape, device=mask.device)
        if config.score != "norm":
            assert received is not None
            importance = importance * received
        if config.score != "attention":
            states = hidden.float()
            l1 = config.norm == "l1"
            importance = importance * (states.abs().sum(dim=-1) if l1 else states.norm(dim=-1))
    return importance.masked_fill(~mask, -torch.inf)


def votes_of(mask: Tensor, config: PruningConfig) -> Tensor:
    """(batch, seq) float32: what the attention of each query counts, 1 or 0."""
    votes = mask.float()
    if config.count_padding:
        votes = torch.ones_like(votes)
    if config.centrality == "last":
        positions = torch.arange(mask.shape[1], device=mask.device)
        newest = positions >= mask.sum(dim=1, keepdim=True) - config.last_queries
        votes = votes * newest
    return votes


def attention_received(attention: Tensor, mask: Tensor, config: PruningConfig) -> Tensor:
    """S_attn: (batch, heads, seq, seq) weights -> (batch, seq) float32, summed over queries.

    config.centrality "mean" divides by the queries that give a token any weight at all (in a
    causal model the ones after it), "last" sums over the newest queries only (arXiv:2407.20485
    discusses the bias of a plain sum towards old tokens).
    """
    votes = votes_of(mask, config)
    heads = attention.shape[1]  # one product reads the weights once, whatever the number of heads
    received = votes.repeat(1, heads)[:, None] @ attention.float().flatten(1, 2)
    if config.centrality == "mean":
        lookers = votes[:, None] @ (attention > 0).any(dim=1).float()
        received = received / lookers.clamp(min=1)
    return received[:, 0]


def rows_at_once(device: torch.device, weights_per_row: int) -> int:
    """How many rows' attention weights a CPU should hold at a time; other devices take them all.

    The weights of one block are by far the largest tensor there is. A whole batch of them pushes
    everything else out of the cache and is paged in anew by every request.

    Args:
        device: where the weights are computed.
        weights_per_row: heads x seq x seq.
    """
    if device.type != "cpu":
        return torch.iinfo(torch.int32).max
    return max(1, CACHED_BYTES // (4 * weights_per_row))


def length_after_cut(seq: int, tokens_per_item: int, config: PruningConfig, ratio: float) -> int:
    """Row length after the cut, from shapes alone: no row keeps more than this."""
    if config.budget == "padded":
        return max(1, int(seq * ratio))
    return min(seq, max(config.min_items * tokens_per_item, math.ceil(seq * ratio - 1e-9), 1))


def num_kept(
    num_real: int, seq: int, tokens_per_item: int, config: PruningConfig, ratio: float
) -> int:
    """How many tokens `choose` keeps of a row with so many real ones: known without the device."""
    most = min(num_real, length_after_cut(seq, tokens_per_item, config, ratio))
    if config.budget == "padded":
        return most
    return min(most, max(config.min_items * tokens_per_item, math.ceil(num_real * ratio - 1e-9)))


def choose(
    importance: Tensor, mask: Tensor, tokens_per_item: int, config: PruningConfig, ratio: float
) -> Cut:
    """Keep each row's k most important tokens in their old order.

    k = max(min_items * tokens_per_item, ceil(ratio * real tokens)), never more than the row has;
    with budget "padded" k is the ratio's share of the padded length for every row (RASTP). Ties
    fall to the older token.

    Args:
        importance: (batch, seq) float32, -inf for padding.
        mask: (batch, seq) bool, True = real token; real tokens are a prefix of the row.
        tokens_per_item: tokens of one item; the newest item's are protected if config says so.
        config: budget, protection and minimum.
        ratio: retention ratio, in (0, 1].
    """
    seq = mask.shape[1]
    kept = length_after_cut(seq, tokens_per_item, config, ratio)
    positions = torch.arange(seq, device=mask.device)
    num_real = mask.sum(dim=1, keepdim=True)
    if config.protect_newest:
        newest = (positions >= num_real - tokens_per_item) & mask
        importance = importance.masked_fill(newest, torch.inf)
    order = importance.argsort(dim=1, descending=True, stable=True)[:, :kept]
    budget = torch.full_like(num_real, kept)
    if config.budget == "valid":
        share = torch.ceil(num_real.double() * ratio - 1e-9).long()
        budget = share.clamp(min=config.min_items * tokens_per_item)
    stays = (torch.arange(kept, device=mask.device) < budget) & mask.gather(1, order)
    indices = torch.where(stays, order, seq).sort(dim=1).values
    return Cut(indices.clamp(max=seq - 1), indices < seq)
