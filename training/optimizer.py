"""The optimiser of a stage, and its learning rate at each step."""

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from training.config import TrainerConfig

LOWEST_RATE = 0.02  # half a cosine ends at this share of the peak

OPTIMIZERS: dict[str, type[Adam | AdamW]] = {"adamw": AdamW, "adam": Adam}


def make_optimizer(parameters: Iterable[nn.Parameter], settings: TrainerConfig) -> Optimizer:
    """Adam or AdamW at the peak rate."""
    return OPTIMIZERS[settings.optimizer](
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )


def rate_at(settings: TrainerConfig, step: int) -> float:
    """The share of `learning_rate` at a step, counted from 0: a linear rise, then the schedule."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    match settings.schedule:
        case "cosine":
            done = min(1.0, step / settings.max_steps)
            share = LOWEST_RATE + (1 - LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * done))
        case "inverse-sqrt":
            peak = max(1, settings.warmup_steps)
            share = math.sqrt(peak / max(peak, step + 1))
        case "constant":
            share = 1.0
    return warm * share
