"""Nothing stays behind on the CPU when a model computes elsewhere, whatever its precision.

The `meta` device stands in for a GPU: it computes shapes only, and refuses to mix devices. Beside
it, a watcher notes every tensor of another device, scalars included, which torch would let pass.
"""

import pytest
import torch
from torch import Tensor

from model.multi_step import FutureHeads, training_loss
from tests.factories import TINY_QWEN, random_model
from tests.model.watchers import BEAMS, ROWS, VARIANTS, Config, DeviceWatcher, request

EVERY = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
LENGTHS = (12, 1, 7)


def training_batch(config: Config, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens, mask, targets and which of them exist."""
    seq = 12 * config.tokens_per_item
    return (
        torch.ones(ROWS, seq, dtype=torch.int64, device=device),
        torch.ones(ROWS, seq, dtype=torch.bool, device=device),
        torch.ones(ROWS, 3, config.num_levels, dtype=torch.int64, device=device),
        torch.ones(ROWS, 3, dtype=torch.bool, device=device),
    )


@EVERY
@torch.inference_mode()
def test_a_request_is_answered_on_one_device(config: Config) -> None:
    """Encode, prune and decode in bfloat16 without a tensor on the CPU; scores are float32."""
    run = request(config, LENGTHS, device="meta")

    with DeviceWatcher("meta") as watcher:
        beams = run()

    assert watcher.strays == []
    assert (beams.scores.dtype, beams.scores.shape) == (torch.float32, (ROWS, BEAMS))


@EVERY
def test_a_training_step_stays_on_one_device(config: Config) -> None:
    """Loss, MAP and backward in bfloat16: every gradient is where its weight is."""
    model = random_model(config).to("meta", torch.bfloat16).train()
    heads = FutureHeads(config.d_model, 2).to("meta", torch.bfloat16)
    batch = training_batch(config, "meta")

    with DeviceWatcher("meta") as watcher:
        loss, _ = training_loss(model, heads, *batch, (0.3, 0.1))
        loss.backward()  # type: ignore[no-untyped-call]

    assert watcher.strays == []
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())


def test_the_dense_layout_stays_on_one_device() -> None:
    """The loss at every item of a history."""
    model = random_model(TINY_QWEN).to("meta", torch.bfloat16)
    heads = FutureHeads(TINY_QWEN.d_model, 2).to("meta", torch.bfloat16)
    tokens, mask, targets, exists = training_batch(TINY_QWEN, "meta")
    dense = targets[:, None].expand(-1, 11, -1, -1), exists[:, None].expand(-1, 11, -1)

    with DeviceWatcher("meta") as watcher:
        loss, _ = training_loss(model, heads, tokens, mask, *dense, (0.3, 0.1), "tokens")
        loss.backward()  # type: ignore[no-untyped-call]

    assert watcher.strays == []
    assert loss.is_meta


@EVERY
def test_bfloat16_trains_to_a_finite_loss(config: Config) -> None:
    """No operation of the CPU mixes precisions or overflows."""
    model = random_model(config).to(torch.bfloat16).train()
    heads = FutureHeads(config.d_model, 2).to(torch.bfloat16)

    loss, _ = training_loss(model, heads, *training_batch(config, "cpu"), (0.3, 0.1))
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.isfinite()


def test_the_watcher_sees_a_scalar_left_on_the_cpu() -> None:
    """Torch lets a scalar tensor of the CPU pass; the watcher does not."""
    with DeviceWatcher("meta") as watcher:
        _ = torch.ones(2, device="meta") * torch.tensor(2.0)

    assert "aten.mul.Tensor" in watcher.strays
