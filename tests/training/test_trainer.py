"""Training learns, validates with the served decoder, and resumes where it was cut off."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import QwenConfig, T5Config
from model.multi_step import training_loss
from tests.checkpoints import start, write_checkpoint
from tests.factories import TINY, TINY_QWEN, tiny_config, tiny_qwen
from tests.training.modules import SETTINGS, Interrupted, PowerCutError, module_of, weights_of
from training.trainer import build_model, fit
from training.windows import BatchStream

STAGES = [
    (TINY, {}),
    (TINY_QWEN, {"auxiliary": "tokens"}),
    (tiny_qwen(dropout=0.1, max_history_items=5), {"layout": "dense", "batch_tokens": 64}),
    (tiny_config(dropout=0.1), {"accumulate": 3, "batch_tokens": 128, "optimizer": "adam"}),
    (TINY, {"precision": "bfloat16", "schedule": "inverse-sqrt"}),
]
STAGE_NAMES = ["t5", "qwen-answer", "qwen-dense", "accumulate", "bfloat16"]


@pytest.mark.parametrize(("config", "changes"), STAGES, ids=STAGE_NAMES)
def test_an_interrupted_training_ends_like_an_uninterrupted_one(
    tmp_path: Path, config: T5Config | QwenConfig, changes: dict[str, Any]
) -> None:
    """Cut off at step 13 and run again: the same best weights, bit for bit."""
    whole = module_of(config=config, **changes)
    expected = fit(whole, tmp_path / "whole")

    with pytest.raises(PowerCutError):
        fit(module_of(Interrupted, config, **changes), tmp_path / "cut")
    resumed = module_of(config=config, **changes)
    found = fit(resumed, tmp_path / "cut")

    assert found == expected
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("config", "changes"),
    [(TINY, {"max_steps": 200}), (TINY_QWEN, {"max_steps": 60, "layout": "dense"})],
    ids=["t5-answer", "qwen-dense"],
)
def test_training_learns_what_is_there_to_learn(
    tmp_path: Path, config: T5Config | QwenConfig, changes: dict[str, Any]
) -> None:
    """Histories that step to the next item: far better than chance after a few hundred steps."""
    module = module_of(config=config, validate_every=100, resume_every=100, **changes)

    recall = fit(module, tmp_path)

    assert recall > 0.6  # chance is 10 of 40, less the seen ones: about 0.3
    assert (tmp_path / "csv" / "metrics.csv").read_text().startswith("epoch,")
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_a_validation_just_before_the_cut_counts(tmp_path: Path) -> None:
    """A checkpoint was due at step 10, then a validation: patience ends where it would have."""
    changes: dict[str, Any] = {
        "validate_every": 5,
        "resume_every": 5,
        "patience": 2,
        "learning_rate": 1e-12,
    }
    whole, resumed = module_of(**changes), module_of(**changes)
    expected = fit(whole, tmp_path / "whole")

    with pytest.raises(PowerCutError):
        fit(module_of(Interrupted, **changes), tmp_path / "cut")
    found = fit(resumed, tmp_path / "cut")

    assert found == expected
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=0, atol=0)
    assert whole.trainer.global_step == resumed.trainer.global_step == 15


def test_training_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    """With a learning rate of nothing there is nothing to wait for."""
    module = module_of(learning_rate=1e-12, max_steps=200, validate_every=5, patience=2)

    fit(module, tmp_path)

    steps = [path.stem for path in (tmp_path / "checkpoints").glob("resume-*")]
    assert steps == ["resume-step=15"]


def test_code_embeddings_may_start_from_their_centroids() -> None:
    """Codes with near centroids start with near embeddings, at the spread asked for."""
    config = tiny_config(codebook_sizes=(3,))
    near = torch.tensor([[1.0, 0.0], [0.99, 0.01], [-1.0, 0.5]])

    model = build_model(config, SETTINGS.model_copy(update={"code_embedding_scale": 0.5}), (near,))

    rows = model.embedding.weight[slice(*model.token_ranges[0])]
    assert torch.dist(rows[0], rows[1]) < torch.dist(rows[0], rows[2]) / 5
    assert rows.std().item() == pytest.approx(0.5, rel=0.05)


def test_the_weight_of_further_items_moves_to_its_last_value() -> None:
    """In a straight line; each further item counts `future_decay` of the one before."""
    settings = SETTINGS.model_copy(
        update={"future_weight": 1.0, "final_future_weight": 0.2, "future_decay": 0.5}
    )

    weights = [settings.future_weights(3, step) for step in (0, 12, 24, 99)]

    expected = [(1.0, 0.5), (0.6, 0.3), (0.2, 0.1), (0.2, 0.1)]
    assert weights == [pytest.approx(pair) for pair in expected]
    assert SETTINGS.future_weights(3, 7) == (0.3, 0.3)


def test_a_stage_goes_on_from_the_one_before() -> None:
    """All weights of the model, and the heads that are still there; further heads are its own."""
    before, after = module_of(num_future_items=1), module_of(num_future_items=2)
    for parameter in before.parameters():
        parameter.data += 1
    own = after.heads.get_parameter("maps.1.weight").clone()

    after.start_from(before.model.state_dict(), before.heads.state_dict())

    torch.testing.assert_close(after.model.state_dict(), before.model.state_dict())
    found, expected = (module.heads.get_parameter("maps.0.weight") for module in (after, before))
    assert torch.equal(found, expected)
    assert torch.equal(after.heads.get_parameter("maps.1.weight"), own)


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_a_training_may_start_from_a_checkpoint(tmp_path: Path, scale: float) -> None:
    """The checkpoint's weights; codes near the mean token, or around it like their centroids."""
    write_checkpoint(tmp_path, "qwen3")
    expected = start(tmp_path)
    codebooks = tuple(torch.randn(size, 4) for size in expected.config.codebook_sizes)
    settings = SETTINGS.model_copy(update={"code_embedding_scale": scale})

    model = build_model(expected.config, settings, codebooks, tmp_path)

    same = {name for name, value in expected.state_dict().items() if name != "embedding.weight"}
    weights = model.state_dict()
    torch.testing.assert_close(
        {name: weights[name] for name in same},
        {name: value for name, value in expected.state_dict().items() if name in same},
    )
    rows = model.embedding.weight[slice(*model.token_ranges[0])]
    center = expected.get_parameter("text_embedding.weight").mean(dim=0)
    torch.testing.assert_close(rows.mean(dim=0), center, rtol=0, atol=0.1)
    assert (rows.std(dim=0).mean() > 0.3).item() is bool(scale)


@pytest.mark.parametrize(
    ("config", "layout"),
    [
        (tiny_config(separator=True, mlp_layers=2, pruning="rastp"), "answer"),
        (tiny_config(feed_forward="gated", tie_outputs=True), "answer"),
        (tiny_qwen(separator=True, qk_norm=False, attention_bias=True), "answer"),
        (tiny_qwen(separator=True, tie_outputs=True), "dense"),
    ],
    ids=["t5-grid", "t5-gated", "qwen2-answer", "qwen3-dense"],
)
def test_every_variant_can_be_trained(config: T5Config | QwenConfig, layout: str) -> None:
    """Every weight that a recipe may ask for gets a gradient."""
    module = module_of(config=config, layout=layout)
    batch = next(iter(BatchStream(module.source, 256, seed=0)))

    loss, _ = training_loss(module.model, module.heads, *batch, future_weights=[0.3, 0.3])
    names, weights = zip(*module.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)

    assert [name for name, found in zip(names, gradients, strict=True) if found is None] == []
