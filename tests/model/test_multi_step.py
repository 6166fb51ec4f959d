"""MAP: targets for the items after the next one, and nothing of it at serving time."""

import pytest
import torch
from torch import Tensor

from model.multi_step import FutureHeads, training_loss
from model.t5 import T5
from tests.factories import history_batch, random_t5, random_table


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """History tokens, mask, and targets (next item and two further ones)."""
    table = random_table()
    tokens, mask = table.pack(history_batch([5, 3]), separator=False, num_items=5)
    targets = torch.from_numpy(table.codes[:6]).long().view(2, 3, 3)
    return torch.from_numpy(tokens), torch.from_numpy(mask), targets


def loss_of(model: T5, heads: FutureHeads, exists: list[list[bool]], weight: float) -> Tensor:
    """The training loss in eval mode, so that dropout does not blur it."""
    weights = [weight] * len(heads.maps)
    return training_loss(model, heads, *batch(), torch.tensor(exists), weights)[0]


def test_the_loss_is_the_sum_of_its_parts() -> None:
    """L = L_next + mean over steps of weight x L_step."""
    torch.manual_seed(0)
    model, heads = random_t5(), FutureHeads(16, 2)

    total = loss_of(model, heads, [[True] * 3] * 2, weight=0.3)

    tokens, mask, targets = batch()
    states = model.decode(model.prompt(tokens, mask), targets[:, 0])
    parts = []
    for step, of_step in enumerate([states, *heads(states)]):
        logs = [model.logits(of_step[:, m], m).log_softmax(-1) for m in range(3)]
        picked = [logs[m].gather(1, targets[:, step, m : m + 1]).mean() for m in range(3)]
        parts.append(-torch.stack(picked).mean())
    torch.testing.assert_close(total, parts[0] + 0.3 * (parts[1] + parts[2]) / 2)


def test_missing_futures_teach_nothing() -> None:
    """Targets beyond the end of a training history change neither loss nor gradients."""
    model, heads = random_t5(), FutureHeads(16, 2)

    masked = loss_of(model, heads, [[True, False, False]] * 2, weight=5.0)

    alone = loss_of(model, FutureHeads(16, 0), [[True]] * 2, weight=5.0)
    torch.testing.assert_close(masked, alone)


def test_logits_are_identical_with_and_without_heads() -> None:
    """The heads read the model's states; a model that lost them computes the same bits."""
    model = random_t5()
    tokens, mask, targets = batch()
    prompt = model.prompt(tokens, mask)

    with_heads = model.decode(prompt, targets[:, 0])
    FutureHeads(16, 2)(with_heads)
    without = T5(model.config).eval()
    without.load_state_dict(model.state_dict())

    again = without.decode(without.prompt(tokens, mask), targets[:, 0])
    assert torch.equal(model.logits(with_heads, 0), without.logits(again, 0))
    assert not any("head" in name for name in model.state_dict())


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_further_steps_reach_the_model_only_through_their_weight(weight: float) -> None:
    """At weight 0 the heads get no gradient; else both they and the encoder do."""
    model, heads = random_t5(), FutureHeads(16, 2)

    loss = loss_of(model, heads, [[True] * 3] * 2, weight)
    gradients = torch.autograd.grad(loss, list(heads.parameters()))

    assert all(bool(gradient.abs().sum() > 0) is (weight > 0) for gradient in gradients)
