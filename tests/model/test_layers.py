"""GRID's variant of a T5's feed-forward parts, and the size it gives."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.config import T5Config
from model.layers import FeedForward
from model.t5 import T5
from tests.factories import tiny_config

GRID = T5Config(
    codebook_sizes=(256, 256, 256, 256),  # three levels, and one that tells collisions apart
    max_history_items=30,
    separator=True,
    d_model=128,
    num_heads=6,
    d_kv=64,
    d_ff=1024,
    num_layers=4,
    num_decoder_layers=4,
    mlp_layers=2,
)
ATTENTION = 4 * 128 * 6 * 64  # queries, keys, values, output: no biases
SMALL = 22 * 128 + 2 * 32 * 6 + 3 * 128  # norms, relative positions, PAD, BOS and the separator


@pytest.mark.parametrize(
    ("mlp_layers", "feed_forward", "millions"),
    [
        (1, 128 * 1024 + 1024 * 128, 4.72),
        (2, (128 + 1) * 1024 + (1024 + 1) * 1024 + (1024 + 1) * 128, 13.12),
    ],
)
def test_grids_sizes_give_grids_number_of_parameters(
    mlp_layers: int, feed_forward: int, millions: float
) -> None:
    """13.12 million in products and tables of codes, as in TIGER's "13 M"; 0.004 in the rest.

    Norms, relative positions and special tokens are what such counts leave out; with them the
    total is 13,128,192, or 4,722,176 with plain feed-forward parts.
    """
    with torch.device("meta"):
        model = T5(GRID.model_copy(update={"mlp_layers": mlp_layers}))

    found = sum(parameter.numel() for parameter in model.parameters())

    codes = 2 * 4 * 256 * 128  # one table of embeddings, one output per level
    products = 4 * (ATTENTION + feed_forward) + 4 * (2 * ATTENTION + feed_forward)
    assert found == codes + products + SMALL
    assert round((codes + products) / 1e6, 2) == millions


def test_two_layers_are_a_relu_network_with_biases() -> None:
    """The part computes outer(relu(middle(relu(inner(x))))), every layer with its bias."""
    part = FeedForward(tiny_config(mlp_layers=2)).eval()
    states = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))

    found = part(torch.zeros_like(states), states)

    weights = dict(part.named_parameters())
    for name in ("inner", "middle", "outer"):
        states = states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        states = F.relu(states) if name != "outer" else states
    torch.testing.assert_close(found, states)
