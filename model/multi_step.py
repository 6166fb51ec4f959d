"""The training loss: the next item, and light heads that also predict what comes after it.

Multi-step Auxiliary Prediction (MAP, arXiv:2604.05329; heads as in arXiv:2404.19737): one head per
further step turns the states into states that predict more, scored by the model's own output
weights. `auxiliary` "items" (MAP) predicts the items after the next one, "tokens" the further
levels of the next item itself. The heads are not part of the model: they are stored apart, and
serving never loads them.
Shape words: batch, items (of a history), rows (predictions of one item), steps (next item, then
further ones), levels, d_model.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.backbone import Backbone
from model.qwen import Qwen

Auxiliary = Literal["items", "tokens"]


class FutureHeads(nn.Module):
    """One residual linear map and norm per further step."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(d_model, d_model) for _ in range(num_heads))
        self.norms = nn.ModuleList(nn.RMSNorm(d_model) for _ in range(num_heads))

    def forward(self, states: Tensor) -> list[Tensor]:
        """(rows, levels, d_model) states -> the same shape for each further step."""
        pairs = zip(self.norms, self.maps, strict=True)
        return [norm(states + step(states)) for norm, step in pairs]


def item_loss(
    model: Backbone, states: Tensor, codes: Tensor, weights: Tensor, first_level: int = 0
) -> Tensor:
    """Cross-entropy of items, as the mean over rows and levels.

    Args:
        model: gives the output weights.
        states: (rows, levels, d_model).
        codes: (rows, levels) int64 target codes.
        weights: (rows,) float; 0 leaves a row out, and all 0 gives 0.
        first_level: which level states and codes begin with.
    """
    per_level = [
        F.cross_entropy(
            model.logits(states[:, place], first_level + place), codes[:, place], reduction="none"
        )
        for place in range(codes.shape[1])
    ]
    per_row = torch.stack(per_level).mean(dim=0)
    return (per_row * weights).sum() / weights.sum().clamp(min=1)


def target_states(
    model: Backbone, tokens: Tensor, mask: Tensor, codes: Tensor, ratio: float | None = None
) -> Tensor:
    """Teacher-forced states, one row per item to predict; the targets' shape says the layout.

    Args:
        model: a Qwen if codes are laid out densely.
        tokens: (batch, seq) history tokens.
        mask: (batch, seq) bool, True = real token.
        codes: (batch, levels) next items, predicted after a history that SAP may cut (answer); or
            (batch, items - 1, levels), item i + 1 at place i, predicted in parallel and without
            SAP, as a dropped position predicts nothing (dense).
        ratio: retention ratio of the answer layout; None = the one the model is made for.

    Returns:
        (rows, levels, d_model); rows = batch, or batch x (items - 1).
    """
    if codes.dim() == 2:
        return model.decode(model.prompt(tokens, mask, ratio), codes)
    assert isinstance(model, Qwen)  # a recipe with another backbone is refused
    return model.dense_states(tokens, mask).flatten(0, 1)


def training_loss(
    model: Backbone,
    heads: FutureHeads,
    tokens: Tensor,
    mask: Tensor,
    targets: Tensor,
    exists: Tensor,
    future_weights: Sequence[float],
    auxiliary: Auxiliary = "items",
    ratio: float | None = None,
) -> tuple[Tensor, Tensor]:
    """L = L_next + mean over heads of weight x L_head; what does not exist is masked out.

    Args:
        model: in train mode, or in eval mode for a validation loss.
        heads: one per further step; fewer than levels with "tokens".
        tokens: (batch, seq) history tokens.
        mask: (batch, seq) bool, True = real token.
        targets: int64 codes, (batch, steps, levels) for the answer layout or (batch, items - 1,
            steps, levels) for the dense one; step 0 is the next item.
        exists: bool, the shape of targets without levels.
        future_weights: one per head.
        auxiliary: what the heads predict.
        ratio: SAP's retention ratio in the answer layout; None = the model's.

    Returns:
        the loss to minimise, and its next-item part.
    """
    states = target_states(model, tokens, mask, targets[..., 0, :], ratio)
    codes, weights = targets.flatten(0, -3), exists.flatten(0, -2).float()
    next_item = item_loss(model, states, codes[:, 0], weights[:, 0])
    further = item_losses if auxiliary == "items" else token_losses
    loss = next_item
    for weight, part in zip(
        future_weights, further(model, heads(states), codes, weights), strict=True
    ):
        loss = loss + weight / len(future_weights) * part
    return loss, next_item


def item_losses(
    model: Backbone, futures: Sequence[Tensor], codes: Tensor, weights: Tensor
) -> list[Tensor]:
    """MAP: head f predicts, at every level, the item f steps after the next one.

    Args:
        model: gives the output weights.
        futures: per head, (rows, levels, d_model).
        codes: (rows, steps, levels) int64.
        weights: (rows, steps) float; 0 leaves a target out.
    """
    return [
        item_loss(model, states, codes[:, step], weights[:, step])
        for step, states in enumerate(futures, start=1)
    ]


def token_losses(
    model: Backbone, futures: Sequence[Tensor], codes: Tensor, weights: Tensor
) -> list[Tensor]:
    """Multi-token prediction: head f predicts level m + f of the next item from state m.

    A state that has no level m + f has no target, so head f has f targets less per item than the
    model itself. Arguments as for item_losses, of which only step 0 is read.
    """
    return [
        item_loss(model, states[:, :-ahead], codes[:, 0, ahead:], weights[:, 0], ahead)
        for ahead, states in enumerate(futures, start=1)
    ]
