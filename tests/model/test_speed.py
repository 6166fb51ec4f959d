"""Number formats: int8 products against plain ones, and answers close to those of float32."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.config import QwenConfig, T5Config
from model.engine import Engine, Query
from model.errors import ModelError
from model.speed import PACKED_FROM, Int8Linear, SpeedMode, accelerate, quantize_rows
from tests.factories import TINY, history_batch, random_bundle, random_model, tiny_config, tiny_qwen

BACKBONES = pytest.mark.parametrize(
    "config",
    [TINY, tiny_config(mlp_layers=2), tiny_qwen(attention_bias=True)],
    ids=["t5", "t5 with biases", "qwen"],
)
FASTER = pytest.mark.parametrize("mode", ["bfloat16", "int8"])
SHAPES = pytest.mark.parametrize(
    ("inputs", "outputs"), [(24, 40), (512, 640)], ids=["plain", "packed"]
)


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Seeded random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(inputs, outputs, bias=bias)


def states(*shape: int) -> torch.Tensor:
    """Seeded random states; their sizes differ by row."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator) * torch.rand(
        *shape[:-1], 1, generator=generator
    )


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20))
@settings(deadline=None)
def test_codes_are_off_by_half_a_step_at_most(values: list[float]) -> None:
    """A step is a 127th of the largest number; a row of zeros stays one."""
    row = torch.tensor([values])

    codes, scales = quantize_rows(row)

    assert codes.dtype == torch.int8
    assert bool(((codes * scales - row).abs() <= 0.501 * scales).all())


@SHAPES
def test_the_int8_product_is_that_of_the_codes(inputs: int, outputs: int) -> None:
    """Exactly what rounding both sides gives, on either path."""
    plain, given_states = linear(inputs, outputs), states(2, 3, inputs)
    weight, weight_scales = quantize_rows(plain.weight.detach())
    codes, scales = quantize_rows(given_states)
    sums = codes.double() @ weight.double().T

    product = Int8Linear(plain)(given_states)

    expected = sums * weight_scales[:, 0] * scales + plain.bias
    torch.testing.assert_close(product.double(), expected.double(), rtol=1e-5, atol=1e-6)


@SHAPES
def test_a_row_does_not_depend_on_the_rows_beside_it(inputs: int, outputs: int) -> None:
    """Bit for bit: each row has its own scale, and the sums are exact."""
    fast, given_states = Int8Linear(linear(inputs, outputs)), states(5, inputs)

    together = fast(given_states)

    assert torch.equal(fast(given_states[3:4]), together[3:4])


def test_large_weights_are_packed() -> None:
    """From PACKED_FROM numbers on; smaller ones would lose more by the call."""
    small, large = linear(512, PACKED_FROM // 512 - 1), linear(512, PACKED_FROM // 512)

    assert [Int8Linear(small).packed, Int8Linear(large).packed] == [False, True]


@BACKBONES
def test_int8_leaves_the_scores_of_codes_alone(config: T5Config | QwenConfig) -> None:
    """All linear maps are replaced but those that score codes."""
    model = accelerate(random_model(config), "int8")

    kept = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]

    assert kept == [f"outputs.{level}" for level in range(config.num_levels)]


@FASTER
@BACKBONES
def test_answers_stay_close_to_those_of_float32(
    config: T5Config | QwenConfig, mode: SpeedMode
) -> None:
    """Without pruning: the same items, all of them, at nearly the same scores."""
    bundle = random_bundle(config)
    queries = [
        Query(history, limit=40, exclude_seen=False, retention_ratio=1.0)
        for history in history_batch([8, 3, 12])
    ]

    exact = Engine.from_bundle(bundle).recommend(queries)
    rough = Engine.from_bundle(bundle, dtype=mode).recommend(queries)

    for before, after in zip(exact, rough, strict=True):
        expected = {item.item_index: item.score for item in before.items}
        found = {item.item_index: item.score for item in after.items}
        assert found == pytest.approx(expected, abs=0.5)


@FASTER
@BACKBONES
def test_pruned_histories_are_answered_too(config: T5Config | QwenConfig, mode: SpeedMode) -> None:
    """Other tokens may survive at a tie, but as many; scores are finite."""
    engine = Engine.from_bundle(random_bundle(config), dtype=mode)

    answer = engine.recommend([Query(history_batch([12])[0], limit=10)])[0]

    assert (len(answer.items), answer.tokens_kept) == (10, 18)
    assert all(item.score < 0 for item in answer.items)


def test_int8_is_refused_elsewhere_than_on_a_cpu() -> None:
    """A readable error, when the engine is built."""
    model = random_model().to("meta")

    with pytest.raises(ModelError, match="int8 is for the CPU"):
        accelerate(model, "int8")
