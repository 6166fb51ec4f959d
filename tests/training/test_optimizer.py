"""Optimisers and learning rates, as a recipe names them."""

from typing import Any

import pytest
import torch
from torch import nn

from training.config import TrainerConfig
from training.optimizer import make_optimizer, rate_at


def settings_of(**changes: Any) -> TrainerConfig:
    """A hundred steps, the first four of them to warm up."""
    return TrainerConfig.model_validate({"max_steps": 100, "warmup_steps": 4, **changes})


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [0.25, 1.0, 0.51, 0.02]),
        ("inverse-sqrt", [0.25, 1.0, (4 / 51) ** 0.5, (4 / 101) ** 0.5]),
        ("constant", [0.25, 1.0, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_rises_then_follows_its_schedule(
    schedule: str, expected: list[float]
) -> None:
    """Linear warm-up to the full rate at step 4; steps 1, 4, 51 and 101."""
    settings = settings_of(schedule=schedule)

    rates = [rate_at(settings, step) for step in (0, 3, 50, 100)]

    assert rates == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("schedule", ["cosine", "inverse-sqrt", "constant"])
def test_without_warm_up_the_first_rate_is_the_highest(schedule: str) -> None:
    """No schedule divides by the warm-up's zero steps."""
    settings = settings_of(schedule=schedule, warmup_steps=0)

    rates = [rate_at(settings, step) for step in range(100)]

    assert rates[0] == max(rates) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)]
)
def test_the_optimizer_is_the_one_named(name: str, kind: type[torch.optim.Optimizer]) -> None:
    """With the recipe's rate and decay; AdamW is a kind of Adam, so the type is compared."""
    settings = settings_of(optimizer=name, learning_rate=0.5, weight_decay=0.25)

    found = make_optimizer([nn.Parameter(torch.zeros(1))], settings)

    assert type(found) is kind
    assert found.defaults["lr"] == 0.5
    assert found.defaults["weight_decay"] == 0.25
