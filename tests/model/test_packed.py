"""Packed products and folded norms compute what the plain ones compute."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.config import QwenConfig, T5Config
from model.packed import TOLERANCE, FoldedNorm, PackedLinear, can_pack
from model.speed import accelerate
from tests.decoding import at_once, step_by_step
from tests.factories import (
    history_batch,
    random_model,
    random_table,
    tiny_config,
    tiny_qwen,
)

CONFIGS = {
    "t5": tiny_config(),
    "t5-grid": tiny_config(mlp_layers=2, separator=True, recency=True),
    "t5-gated": tiny_config(feed_forward="gated", tie_outputs=True),
    "qwen3": tiny_qwen(),
    "qwen2": tiny_qwen(qk_norm=False, attention_bias=True),
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear_map(inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    """With normal weights."""
    linear = nn.Linear(inputs, outputs, bias=bias).requires_grad_(requires_grad=False)
    linear.weight.copy_(drawn(outputs, inputs, seed=1) / inputs**0.5)
    return linear


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_this_torch_packs(dtype: torch.dtype) -> None:
    """Wherever torch has oneDNN, as on the machines that the pinned torch is for."""
    assert can_pack(dtype) is torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def test_numbers_that_cannot_be_packed_are_not() -> None:
    """An operator that is missing or fails is no error: weights stay as they are."""
    assert can_pack(torch.float64) is False


@given(
    rows=st.integers(1, 100),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    bias=st.booleans(),
)
@torch.inference_mode()
def test_a_packed_product_is_the_product(rows: int, inputs: int, outputs: int, bias: bool) -> None:
    """Alone, with ReLU, and added to something; of any size."""
    linear = linear_map(inputs, outputs, bias=bias)
    states, to = drawn(2, rows, inputs), drawn(2, rows, outputs, seed=2)
    packed = PackedLinear(linear)

    found = packed(states), packed.relu(states), packed.add(states, to)

    expected = linear(states), F.relu(linear(states)), linear(states) + to
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e4])
@torch.inference_mode()
def test_a_folded_norm_is_the_norm(scale: float) -> None:
    """For states so small that epsilon decides, and large ones; alone, and before its readers."""
    norm = nn.RMSNorm(48, 1e-6)
    norm.weight.copy_(drawn(48))
    states = drawn(5, 48, seed=1) * scale
    readers = [linear_map(48, 7, bias=False), linear_map(48, 9, bias=True)]
    expected = [norm(states), *[reader(norm(states)) for reader in readers]]

    alone, before = FoldedNorm(norm), FoldedNorm(norm, *readers)

    found = [alone(states), *[reader(before(states)) for reader in readers]]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.inference_mode()
def test_a_packed_model_computes_what_the_model_computes(config: T5Config | QwenConfig) -> None:
    """Reading a history, cut or not, and decoding it either way."""
    model = random_model(config)
    packed = accelerate(copy.deepcopy(model), "float32", kernels=lambda: None)
    tokens, mask = (
        torch.from_numpy(each)
        for each in random_table().pack(
            history_batch([12, 1, 7]), separator=config.separator, num_items=12
        )
    )
    codes = torch.from_numpy(random_table().codes[:3]).long()

    assert not any(isinstance(each, nn.RMSNorm) for each in packed.modules())
    for ratio in (1.0, 0.5):
        expected = model.decode(model.prompt(tokens, mask, ratio), codes)
        prompt = packed.prompt(tokens, mask, ratio)
        for decode in (step_by_step, at_once):
            torch.testing.assert_close(
                decode(packed, prompt, codes), expected, rtol=1e-5, atol=1e-5
            )
        torch.testing.assert_close(packed.decode(prompt, codes), expected, rtol=1e-5, atol=1e-5)


def test_where_nothing_packs_float32_changes_nothing() -> None:
    """On another device, or where operators are missing."""
    model = random_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    after = accelerate(model, "float32", packs=lambda _: False).state_dict()

    assert all(torch.equal(before[name], value) for name, value in after.items())
    on_meta = random_model().to("meta")
    assert accelerate(on_meta, "float32").state_dict().keys() == before.keys()


def test_packed_weights_replace_the_plain_ones() -> None:
    """No product's weights are kept twice: tables and the scores of codes stay as they were."""
    model = accelerate(random_model(), "float32", kernels=lambda: None)

    kept = {name.split(".")[-2] for name, _ in model.named_parameters()}

    assert kept == {"embedding", "table", "0", "1", "2"}
