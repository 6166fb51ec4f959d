"""Whether compiled code can do a model's blocks, what it is told of them, and that it is right."""

import torch
from torch import Tensor

from model.backbone import Backbone
from model.config import ModelConfig
from model.kernels.library import Kernels
from model.kernels.structures import Shape

MOST_LEVELS = 64
"""Codes that a row may see in a pass."""
TOLERANCE = 1e-3
"""Of normed states, between compiled code and torch."""


def can_compute(config: ModelConfig, kernels: Kernels) -> bool:
    """Whether it has what such a model needs.

    Widths must be whole vectors; and padding is not computed, so it cannot have votes, nor are
    weights counted that are above 0.
    """
    pruning = config.pruning
    if pruning is not None and (pruning.count_padding or pruning.centrality == "mean"):
        return False
    widths = (config.d_model, config.d_kv, config.d_ff)
    return kernels.fits(*widths) and config.num_levels <= MOST_LEVELS


def shape_of(config: ModelConfig, kv_heads: int, *, silu: bool) -> Shape:
    """What the blocks of such a model have in common."""
    return Shape(
        d_model=config.d_model,
        heads=config.num_heads,
        kv_heads=kv_heads,
        d_kv=config.d_kv,
        d_ff=config.d_ff,
        silu=silu,
        epsilon=config.norm_epsilon,
    )


def agree(found: Tensor, expected: Tensor) -> bool:
    """Whether two `tried` are the same but for rounding."""
    return torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@torch.inference_mode()
def tried(model: Backbone) -> Tensor:
    """States of a short made-up history and its next item: what is compared."""
    num_items = min(2, model.config.max_history_items)
    tokens = torch.arange(num_items * model.config.tokens_per_item)[None]
    tokens = tokens % model.embedding.num_embeddings
    prompt = model.prompt(tokens, torch.ones_like(tokens, dtype=torch.bool), 1.0)
    return model.decode(prompt, torch.zeros(1, model.config.num_levels, dtype=torch.int64))
