"""Steps of several batches, and batches in bfloat16."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.multi_step import training_loss
from tests.factories import tiny_config
from tests.training.modules import Interrupted, PowerCutError, module_of, weights_of
from training.trainer import StampModule, fit
from training.windows import Batch, BatchStream


def test_a_cut_before_the_first_new_checkpoint_changes_nothing(tmp_path: Path) -> None:
    """Cut at step 13, gone on from step 10, cut again at step 13: the same weights all the same."""
    changes: dict[str, Any] = {"accumulate": 2, "batch_tokens": 128}
    whole, resumed = module_of(**changes), module_of(**changes)
    fit(whole, tmp_path / "whole")

    for _ in range(2):
        with pytest.raises(PowerCutError):
            fit(module_of(Interrupted, **changes), tmp_path / "cut")
    fit(resumed, tmp_path / "cut")

    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=0, atol=0)


class Watched(StampModule):
    """Remembers the batches it reads, types of losses and products, and the last gradients."""

    def on_fit_start(self) -> None:
        """Before the first step."""
        self.read: list[Tensor] = []
        self.types: set[torch.dtype] = set()

    def on_before_optimizer_step(self, _: torch.optim.Optimizer) -> None:
        """Gradients before they are clipped."""
        self.gradients = [
            None if weights.grad is None else weights.grad.clone() for weights in self.parameters()
        ]

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """As ever."""
        self.read.append(batch.tokens)
        loss = super().training_step(batch, number)
        self.types |= {loss.dtype, self.heads.maps[0](self.model.embedding.weight).dtype}
        return loss


def test_a_step_reads_as_many_batches_as_it_should(tmp_path: Path) -> None:
    """Three steps of two batches read the first six."""
    module = module_of(Watched, max_steps=3, accumulate=2, validate_every=3)
    assert isinstance(module, Watched)

    fit(module, tmp_path)

    stream = islice(BatchStream(module.source, 256, seed=0), 6)
    assert [tokens.tolist() for tokens in module.read] == [b.tokens.tolist() for b in stream]
    assert module.trainer.global_step == 3


def test_accumulation_is_the_mean_of_gradients(tmp_path: Path) -> None:
    """One step over two batches follows the gradient of their mean loss."""
    module = module_of(
        Watched, tiny_config(dropout=0.0), max_steps=1, accumulate=2, validate_every=1
    )
    assert isinstance(module, Watched)
    by_hand = module_of(config=tiny_config(dropout=0.0))
    batches = list(islice(BatchStream(module.source, 256, seed=0), 2))

    fit(module, tmp_path)
    losses = [training_loss(by_hand.model, by_hand.heads, *b, (0.3, 0.3))[0] for b in batches]
    torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]

    expected = [weights.grad for weights in by_hand.parameters()]
    torch.testing.assert_close(module.gradients, expected, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_for_products_alone(tmp_path: Path) -> None:
    """Loss and weights stay float32."""
    module = module_of(Watched, max_steps=2, precision="bfloat16", validate_every=2)
    assert isinstance(module, Watched)

    fit(module, tmp_path)

    assert module.types == {torch.float32, torch.bfloat16}
    assert {weights.dtype for weights in module.parameters()} == {torch.float32}
