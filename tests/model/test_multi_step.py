"""MAP: targets beside the next code, in both layouts, and nothing of it at serving time."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from model.backbone import Backbone
from model.config import QwenConfig, T5Config
from model.multi_step import Auxiliary, FutureHeads, training_loss
from tests.factories import (
    history_batch,
    random_model,
    random_t5,
    random_table,
    tiny_config,
    tiny_qwen,
)

Layout = Literal["answer", "dense"]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
BOTH: tuple[Auxiliary, ...] = ("items", "tokens")
EVERYTHING = [[True, True, True]] * 2


def batch(layout: Layout = "answer") -> Inputs:
    """History tokens, mask, targets (next item and two further ones), and which of them exist.

    Dense: rows of five and three items, two of whose further targets do not exist.
    """
    table = random_table()
    tokens, mask = table.pack(history_batch([5, 3]), separator=False, num_items=5)
    rows = 2 if layout == "answer" else 8
    targets = torch.from_numpy(table.codes[: rows * 3]).long().view(rows, 3, 3)
    exists = torch.ones(rows, 3, dtype=torch.bool)
    if layout == "dense":
        exists[2, 2] = exists[3, 1:] = exists[6:] = False
        targets, exists = targets.view(2, 4, 3, 3), exists.view(2, 4, 3)
    return torch.from_numpy(tokens), torch.from_numpy(mask), targets, exists


def loss_of(
    model: Backbone,
    heads: FutureHeads,
    inputs: Inputs,
    weight: float = 0.3,
    auxiliary: Auxiliary = "items",
) -> Tensor:
    """The training loss in eval mode, so that dropout does not blur it."""
    weights = [weight] * len(heads.maps)
    return training_loss(model, heads, *inputs, weights, auxiliary)[0]


def with_exists(exists: list[list[bool]]) -> Inputs:
    """The batch of the answer layout with other targets present."""
    tokens, mask, targets, _ = batch()
    return tokens, mask, targets, torch.tensor(exists)


def slow_loss(model: Backbone, heads: FutureHeads, inputs: Inputs, auxiliary: Auxiliary) -> Tensor:
    """The same with weight 0.3, one history, one item, one level and one head at a time."""
    tokens, mask, targets, exists = inputs
    dense = targets.dim() == 4
    terms: list[list[Tensor]] = [[] for _ in range(1 + len(heads.maps))]
    for row in range(len(tokens)):
        for place in range(targets.shape[1] if dense else 1):
            codes, there = (x[row, place] if dense else x[row] for x in (targets, exists))
            states = states_of(model, tokens[row][mask[row]], codes[0], place if dense else None)
            for step, of_step in enumerate([states, *heads(states)]):
                wanted, shift = (codes[step], 0) if auxiliary == "items" else (codes[0], step)
                if there[step if auxiliary == "items" else 0]:
                    terms[step].append(mean_loss(model, of_step[0], wanted, shift))
    means = [torch.stack(of_step).mean() for of_step in terms]
    return means[0] + 0.3 * torch.stack(means[1:]).mean()


def states_of(model: Backbone, tokens: Tensor, codes: Tensor, place: int | None) -> Tensor:
    """(1, levels, d_model) states before an item: of the answer, or behind item `place`."""
    ratio = None if place is None else 1.0
    history = tokens if place is None else tokens[: (place + 1) * 3]
    prompt = model.prompt(history[None], torch.ones_like(history[None], dtype=torch.bool), ratio)
    if place is not None and len(tokens) > len(history):  # what stands there is what it reads
        codes = tokens[len(history) :][:3] - model.first_tokens
    return model.decode(prompt, codes[None])


def mean_loss(model: Backbone, states: Tensor, codes: Tensor, shift: int) -> Tensor:
    """Mean of -log p over the levels that have a target `shift` levels on."""
    logs = [
        model.logits(states[level], level + shift).log_softmax(-1)[codes[level + shift]]
        for level in range(len(codes) - shift)
    ]
    return -torch.stack(logs).mean()


@pytest.mark.parametrize("auxiliary", BOTH)
@pytest.mark.parametrize(
    ("model", "layout"),
    [
        (random_t5(), "answer"),
        (random_model(tiny_qwen()), "answer"),
        (random_model(tiny_qwen()), "dense"),
    ],
    ids=["t5", "qwen-answer", "qwen-dense"],
)
def test_the_loss_is_what_a_slow_loop_computes(
    model: Backbone, layout: Layout, auxiliary: Auxiliary
) -> None:
    """L = L_next + mean over heads of weight x mean over their targets."""
    torch.manual_seed(0)
    heads, inputs = FutureHeads(16, 2), batch(layout)

    found = loss_of(model, heads, inputs, auxiliary=auxiliary)

    torch.testing.assert_close(found, slow_loss(model, heads, inputs, auxiliary))


def test_missing_futures_teach_nothing() -> None:
    """Targets beyond the end of a training history change neither loss nor gradients."""
    model, heads = random_t5(), FutureHeads(16, 2)

    masked = loss_of(model, heads, with_exists([[True, False, False]] * 2), weight=5.0)

    alone = loss_of(model, FutureHeads(16, 0), batch())
    torch.testing.assert_close(masked, alone)


@pytest.mark.parametrize("config", [tiny_config(), tiny_qwen()])
def test_logits_are_identical_with_and_without_heads(config: T5Config | QwenConfig) -> None:
    """The heads read the model's states; a model that lost them computes the same bits."""
    model = random_model(config)
    tokens, mask, targets, _ = batch()

    with_heads = model.decode(model.prompt(tokens, mask), targets[:, 0])
    FutureHeads(16, 2)(with_heads)
    without = random_model(config, seed=1)
    without.load_state_dict(model.state_dict())

    again = without.decode(without.prompt(tokens, mask), targets[:, 0])
    for level in range(3):
        one, other = model.logits(with_heads, level), without.logits(again, level)
        assert torch.equal(one, other)
    assert not any("head" in name for name in model.state_dict())


@pytest.mark.parametrize("auxiliary", BOTH)
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_further_steps_reach_the_model_only_through_their_weight(
    weight: float, auxiliary: Auxiliary
) -> None:
    """At weight 0 the heads get no gradient; else both they and the encoder do."""
    model, heads = random_t5(), FutureHeads(16, 2)

    loss = loss_of(model, heads, batch(), weight, auxiliary)
    gradients = torch.autograd.grad(loss, list(heads.parameters()))

    assert all(bool(gradient.abs().sum() > 0) is (weight > 0) for gradient in gradients)
