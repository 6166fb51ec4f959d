"""Multi-step Auxiliary Prediction (MAP): training targets for the items after the next one.

One light head per further step turns the decoder's states into states that predict that step's
item, scored by the model's own output weights (arXiv:2604.05329; Gloeckle et al.,
arXiv:2404.19737). The heads are not part of the model: they are stored apart, and serving never
loads them. Shape words: batch, steps (next item, then further ones), levels, d_model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.backbone import Backbone


class FutureHeads(nn.Module):
    """One residual linear map and norm per further step."""

    def __init__(self, d_model: int, num_future_items: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(d_model, d_model) for _ in range(num_future_items))
        self.norms = nn.ModuleList(nn.RMSNorm(d_model) for _ in range(num_future_items))

    def forward(self, states: Tensor) -> list[Tensor]:
        """(batch, levels, d_model) decoder states -> the same shape for each further step."""
        pairs = zip(self.norms, self.maps, strict=True)
        return [norm(states + step(states)) for norm, step in pairs]


def item_loss(model: Backbone, states: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of items, as the mean over rows and levels.

    Args:
        model: gives the output weights.
        states: (batch, levels, d_model).
        codes: (batch, levels) int64 target codes.
        weights: (batch,) float; 0 leaves a row out, and all 0 gives 0.
    """
    per_level = [
        F.cross_entropy(model.logits(states[:, level], level), codes[:, level], reduction="none")
        for level in range(codes.shape[1])
    ]
    per_row = torch.stack(per_level).mean(dim=0)
    return (per_row * weights).sum() / weights.sum().clamp(min=1)


def training_loss(
    model: Backbone,
    heads: FutureHeads,
    tokens: Tensor,
    mask: Tensor,
    targets: Tensor,
    exists: Tensor,
    future_weights: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """L = L_next + mean over further steps of weight x L_step; missing futures are masked out.

    Args:
        model: in train mode, or in eval mode for a validation loss.
        heads: one per further step.
        tokens: (batch, seq) history tokens.
        mask: (batch, seq) bool, True = real token.
        targets: (batch, 1 + further steps, levels) int64 codes; the first is the next item.
        exists: (batch, 1 + further steps) bool; the first is always True.
        future_weights: one per further step.

    Returns:
        the loss to minimise, and its next-item part.
    """
    states = model.decode(model.prompt(tokens, mask), targets[:, 0])
    next_item = item_loss(model, states, targets[:, 0], exists[:, 0].float())
    loss = next_item
    for step, future in enumerate(heads(states), start=1):
        share = future_weights[step - 1] / len(future_weights)
        loss = loss + share * item_loss(model, future, targets[:, step], exists[:, step].float())
    return loss, next_item
