"""Compiled blocks compute what torch's compute, whoever else is in the batch; and how they come."""

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.backbone import Backbone
from model.config import PruningConfig, QwenConfig, T5Config
from model.kernels.__main__ import main
from model.kernels.build import BuildError, build, library_path
from model.kernels.library import Kernels, find
from model.native_qwen import NativeQwen
from model.native_t5 import NativeEncoder
from model.speed import accelerate
from tests.decoding import at_once, step_by_step
from tests.factories import history_batch, random_model, random_table, tiny_config, tiny_qwen

AnyConfig = T5Config | QwenConfig

KERNELS = find()
needs_kernels = pytest.mark.skipif(KERNELS is None, reason="nothing is compiled: no C compiler?")
CUTS = {
    "last": PruningConfig(layer=1, retention_ratio=0.5, centrality="last", last_queries=5),
    "reset": PruningConfig(layer=0, retention_ratio=0.5, positions="reset", protect_newest=False),
}
CONFIGS: dict[str, AnyConfig] = {
    "plain": tiny_config(),
    "grid": tiny_config(mlp_layers=2, separator=True, recency=True),
    "gated": tiny_config(feed_forward="gated", tie_outputs=True),
    "wide": tiny_config(d_model=80, d_kv=48, d_ff=208, num_heads=3),
    **{name: tiny_config(pruning=cut) for name, cut in CUTS.items()},
    "qwen3": tiny_qwen(),
    "qwen2": tiny_qwen(qk_norm=False, attention_bias=True, tie_outputs=True),
    "qwen-wide": tiny_qwen(d_model=80, d_kv=48, d_ff=208, num_heads=6, num_kv_heads=3),
    "qwen-prefix": tiny_qwen(text_vocabulary=9, prefix_tokens=(4, 0, 7)),
    **{f"qwen-{name}": tiny_qwen(pruning=cut) for name, cut in CUTS.items()},
}


def kernels() -> Kernels:
    """Those of this processor."""
    assert KERNELS is not None
    return KERNELS


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def histories(config: AnyConfig, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Tokens and mask of a padded batch."""
    tokens, mask = random_table().pack(
        history_batch(lengths), separator=config.separator, num_items=12
    )
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def native(model: Backbone) -> Backbone:
    """A copy with compiled blocks."""
    found = accelerate(copy.deepcopy(model), "float32", kernels=kernels)
    assert any(isinstance(part, NativeEncoder | NativeQwen) for part in found.modules())
    return found


def is_native(config: AnyConfig, kernels: Kernels | None) -> bool:
    """Whether a model of this kind gets compiled blocks."""
    model = accelerate(random_model(config), "float32", kernels=lambda: kernels)
    return any(isinstance(part, NativeEncoder | NativeQwen) for part in model.modules())


@needs_kernels
@given(rows=st.integers(1, 40), inputs=st.integers(1, 90), lanes=st.integers(1, 12))
@torch.inference_mode()
def test_a_product_is_the_product(rows: int, inputs: int, lanes: int) -> None:
    """Of any number of rows and inputs; outputs are whole vectors."""
    outputs = lanes * kernels().lanes
    states, weight = drawn(rows, inputs), drawn(outputs, inputs, seed=1)

    found = kernels().linear(states, kernels().pack(weight), outputs)

    torch.testing.assert_close(found, states @ weight.T, rtol=1e-5, atol=2e-5)


@needs_kernels
@given(queries=st.integers(1, 70), keys=st.integers(1, 70), scale=st.sampled_from([0.0, 1.0, 9.0]))
@torch.inference_mode()
def test_attention_is_attention(queries: int, keys: int, scale: float) -> None:
    """Of any number of queries and keys, also where one key has nearly all of the weight."""
    width = 2 * kernels().lanes
    query, key = drawn(2, 3, queries, width) * scale, drawn(2, 3, keys, width, seed=1)
    value = drawn(2, 3, keys, width, seed=2)

    found = kernels().attention(query, key, value)

    expected = F.scaled_dot_product_attention(query, key, value, scale=1.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=3e-5)


@needs_kernels
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e4])
@torch.inference_mode()
def test_a_norm_is_the_norm(scale: float) -> None:
    """For states so small that epsilon decides, and large ones."""
    norm = nn.RMSNorm(48, 1e-6)
    norm.weight.copy_(drawn(48))
    states = drawn(3, 5, 48, seed=1) * scale

    found = kernels().norm(states, norm.weight, 1e-6)

    torch.testing.assert_close(found, norm(states), rtol=1e-5, atol=1e-6)


@needs_kernels
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.inference_mode()
def test_a_native_model_computes_what_the_model_computes(config: AnyConfig) -> None:
    """Reading padded histories, cut or not, and decoding them any way."""
    model = random_model(config)
    fast = native(model)
    tokens, mask = histories(config, [12, 1, 7])
    codes = torch.from_numpy(random_table().codes[:3]).long()

    for ratio in (1.0, 0.5, 0.25):
        slow_prompt, prompt = model.prompt(tokens, mask, ratio), fast.prompt(tokens, mask, ratio)
        expected = model.decode(slow_prompt, codes)
        assert (prompt.cut is None) == (ratio == 1)
        if prompt.cut is not None and slow_prompt.cut is not None:
            assert torch.equal(prompt.cut.indices, slow_prompt.cut.indices)
        for decode in (step_by_step, at_once, Backbone.decode):
            found = fast.decode(prompt, codes) if decode is Backbone.decode else None
            found = decode(fast, prompt, codes) if found is None else found
            torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@needs_kernels
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_nobody_in_the_batch_changes_a_bit_of_an_answer(name: str) -> None:
    """Sums of a row are added in one order, however many rows and how much padding there are."""
    model = native(random_model(CONFIGS[name]))
    lengths = [12, 1, 7, 4, 9]
    tokens, mask = histories(CONFIGS[name], lengths)
    codes = torch.from_numpy(random_table().codes[:5]).long()
    for ratio in (1.0, 0.5):
        together = step_by_step(model, model.prompt(tokens, mask, ratio), codes)

        for row, length in enumerate(lengths):
            own = slice(row, row + 1), slice(0, model.config.tokens_per_item * length)
            prompt = model.prompt(tokens[own], mask[own], ratio)
            alone = step_by_step(model, prompt, codes[row : row + 1])
            assert torch.equal(alone[0], together[row])


@needs_kernels
def test_a_model_that_reads_one_item_is_native_too() -> None:
    """Its positions end where the history that it is tried with ends."""
    for tiny in (tiny_config, tiny_qwen):
        assert is_native(tiny(max_history_items=1), KERNELS)


@needs_kernels
@torch.inference_mode()
def test_the_arguments_stay_as_they_are() -> None:
    """BOS is a view of the embedding: nothing is computed in place of it."""
    model = native(random_model())
    before = model.embedding.weight.clone()
    tokens, mask = histories(tiny_config(), [3])

    model.start(model.prompt(tokens, mask))

    assert torch.equal(model.embedding.weight, before)


@needs_kernels
def test_what_it_cannot_compute_stays_with_torch() -> None:
    """Widths that are no whole vectors, and scores that padding or zero weights decide."""
    mean = PruningConfig(layer=1, centrality="mean")
    for tiny in (tiny_config, tiny_qwen):
        assert is_native(tiny(), KERNELS)
        assert not is_native(tiny(d_kv=kernels().lanes + 2), KERNELS)
        assert not is_native(tiny(pruning=mean), KERNELS)
        assert not is_native(tiny(pruning=PruningConfig.rastp()), KERNELS)
        assert not is_native(tiny(), None)


@needs_kernels
def test_several_threads_are_torchs() -> None:
    """Compiled code runs on one."""
    torch.set_num_threads(2)
    try:
        assert not is_native(tiny_config(), KERNELS)
    finally:
        torch.set_num_threads(1)


class Wrong(Kernels):
    """A library that was compiled wrongly."""

    def t5_step(self, *_: object) -> None:
        """Computes nothing."""

    def qwen_step(self, *_: object) -> None:
        """The same."""


@needs_kernels
@pytest.mark.parametrize("config", [tiny_config(), tiny_qwen()], ids=["t5", "qwen"])
@torch.inference_mode()
def test_a_library_that_computes_something_else_is_not_used(config: AnyConfig) -> None:
    """It is compared with torch when a model is loaded; the model then stays whole."""
    wrong = Wrong(library_path(kernels().kind), kernels().kind)
    expected = random_model(config)
    tokens, mask = histories(config, [3, 5])
    codes = torch.zeros(2, 3, dtype=torch.int64)

    found = accelerate(copy.deepcopy(expected), "float32", kernels=lambda: wrong)

    assert not is_native(config, wrong)
    torch.testing.assert_close(
        found.decode(found.prompt(tokens, mask), codes),
        expected.decode(expected.prompt(tokens, mask), codes),
        rtol=1e-5,
        atol=1e-5,
    )


@needs_kernels
def test_it_compiles_once_and_forgets_what_older_files_made(tmp_path: Path) -> None:
    """Names carry a hash of what was compiled."""
    old = tmp_path / "stamp-avx2-0123456789abcdef.so"
    old.touch()

    assert main((), tmp_path) == 0
    paths = build(folder=tmp_path)
    again = build(("false",), tmp_path)  # would fail if there were anything to do

    assert paths == again
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    found = Kernels(library_path(kernels().kind, tmp_path), kernels().kind)
    assert (found.lanes, found.wide) == (kernels().lanes, kernels().wide)


def test_a_compiler_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither half a library nor a traceback."""
    for compiler in (("false",), ("/nowhere/cc",)):
        with pytest.raises(BuildError, match=compiler[0]):
            build(compiler, tmp_path)

    assert list(tmp_path.iterdir()) == []
    assert find(tmp_path) is None


def test_without_a_compiler_a_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And that is no failure; a compiler that was named and fails is one."""
    assert main((), tmp_path, [("/nowhere/cc",)]) == 0
    assert main(("/nowhere/cc",), tmp_path) == 1

    assert capsys.readouterr().err.splitlines() == [
        "[kernels] found no C compiler (tried: /nowhere/cc): torch computes instead, more slowly",
        "[kernels] /nowhere/cc does not run: [Errno 2] No such file or directory: '/nowhere/cc': "
        "torch computes instead, more slowly",
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_load_is_not_there(tmp_path: Path) -> None:
    """Such as a library for another system."""
    if KERNELS is None:
        pytest.skip("no kind of library for this machine, or nothing compiled")
    library_path(KERNELS.kind, tmp_path).write_bytes(b"not a library")

    assert find(tmp_path) is None
