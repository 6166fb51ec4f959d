"""What the three measures of cost count, and what they do not."""

import gc
import weakref

import pytest
import torch
from torch import nn

from benchmarks.workload import SHAPES, job, with_ratio
from model.config import T5Config
from training.cost import bytes_saved_for_backward, flops, interleaved_seconds


class Recorder:
    """Remembers in which order its works were done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def work(self, name: str) -> None:
        """Do next to nothing."""
        self.done.append(name)


def multiply_adds_of_reading(config: T5Config, tokens: int) -> int:
    """By hand: every encoder block, and the keys and values for every decoder block."""
    width, inner = config.d_model, config.num_heads * config.d_kv
    attention = tokens * width * 3 * inner + 2 * tokens**2 * inner + tokens * inner * width
    block = attention + 2 * tokens * width * config.d_ff
    memory = tokens * width * 2 * inner
    return config.num_layers * block + config.num_decoder_layers * memory


def test_works_take_turns() -> None:
    """Once each to warm up, then round after round."""
    recorder = Recorder()
    works = {name: lambda name=name: recorder.work(name) for name in "ab"}

    seconds = interleaved_seconds(works, budget_s=0, min_rounds=2)

    assert recorder.done == ["a", "b"] * 3
    assert all(0 <= value < 1 for value in seconds.values())


def test_a_storage_saved_twice_counts_once_and_parameters_never() -> None:
    """A product keeps the states, a square its view of them; the weight is the model's."""
    weight = nn.Parameter(torch.ones(8, 8))
    states = torch.ones(4, 8, requires_grad=True)

    found = bytes_saved_for_backward(
        lambda: (states @ weight).sum() + (states.view(32) ** 2).sum(), [weight]
    )

    assert found == 4 * 8 * 4


def test_counting_memory_frees_it_again() -> None:
    """Nothing of the graph outlives the count."""
    states = torch.ones(4, requires_grad=True)
    made: list[weakref.ref[torch.Tensor]] = []

    def forward() -> torch.Tensor:
        root = (states + 1).sqrt()
        made.append(weakref.ref(root))
        return root.sum()

    bytes_saved_for_backward(forward, [])
    gc.collect()

    assert made[0]() is None


@pytest.mark.parametrize("items", [10, 50])
def test_counted_operations_are_those_of_the_formula(items: int) -> None:
    """The counter sees every product, those of attention with a bias included."""
    config = SHAPES["t5"]
    assert isinstance(config, T5Config)
    work = job(with_ratio(config, 1.0), [[items] * 2], device="meta")

    found = flops(work.encode)

    assert found == 2 * 2 * multiply_adds_of_reading(config, items * config.tokens_per_item)


def test_training_counts_three_times_its_forward_pass() -> None:
    """Backward multiplies twice for every product: by the states and by the weights."""
    work = job(with_ratio(SHAPES["qwen24"], 1.0), [[10]], device="meta")

    ratio = flops(work.train) / flops(work.encode)

    assert ratio == pytest.approx(3, rel=0.1)
