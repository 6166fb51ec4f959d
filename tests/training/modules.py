"""A tiny model with what it trains on, and one that is cut off in the middle of a step."""

from typing import Any

import torch
from torch import Tensor

from model.config import QwenConfig, T5Config
from tests.factories import TINY, random_catalog, random_table
from tests.training.data_folders import histories_of
from training.config import TrainerConfig
from training.splits import leave_one_out
from training.trainer import StampModule, build_model
from training.windows import Batch, source_for

SETTINGS = TrainerConfig(
    max_steps=24,
    batch_tokens=256,
    learning_rate=5e-3,
    warmup_steps=2,
    validate_every=8,
    resume_every=5,
)


class PowerCutError(Exception):
    """The machine goes away in the middle of a step."""


class Interrupted(StampModule):
    """Stops dead in a given step, after its first batch if it has several."""

    last_step = 13

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Work until the cut."""
        batches = self.settings.accumulate
        if self.global_step == self.last_step and (number % batches or batches == 1):
            raise PowerCutError
        return super().training_step(batch, number)


def module_of(
    kind: type[StampModule] = StampModule,
    config: T5Config | QwenConfig = TINY,
    **changes: Any,
) -> StampModule:
    """A tiny model over histories that walk through the catalog in order."""
    settings = SETTINGS.model_copy(update=changes)
    table = random_table()
    split = leave_one_out(histories_of(*([(u + n) % 40 for n in range(14)] for u in range(40))))
    source = source_for(settings, split.train, table, config)
    codebooks = tuple(torch.randn(size, 4) for size in config.codebook_sizes)
    model = build_model(config, settings, codebooks)
    return kind(model, settings, source, split.valid, random_catalog(table))


def weights_of(module: StampModule) -> dict[str, Tensor]:
    """All weights, MAP heads included."""
    return {name: value.clone() for name, value in module.state_dict().items()}
