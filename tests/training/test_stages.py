"""Two stages: a dense one, then one that answers; interrupted anywhere, they go on."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.bundle import latest, load_bundle
from model.errors import ModelError
from model.qwen import Qwen
from tests.checkpoints import change_config, change_tensors, write_checkpoint
from tests.training.recipes import RECIPE, TWO_STAGES, recipe_file, run_all, run_of
from training import steps
from training.config import read_recipe
from training.run import Run
from training.trainer import StampModule
from training.windows import Batch

SIZES = ("d_model", "num_heads", "d_kv", "d_ff", "num_layers")


class PowerCutError(Exception):
    """The machine goes away in the middle of a step."""


def weights_of(run: Run, stage: str) -> dict[str, Tensor]:
    """What a stage left behind, MAP heads included."""
    folder = run.folder / stage / run.stamp(stage)[0]
    return load_file(folder / "model.safetensors") | load_file(folder / "map_heads.safetensors")


def run_and_cut(run: Run, monkeypatch: pytest.MonkeyPatch, last_step: int) -> None:
    """Run all steps, but stop dead before one optimiser step, counted over both stages."""
    taken = 0
    real = StampModule.training_step

    def work(module: StampModule, batch: Batch, number: int) -> Tensor:
        nonlocal taken
        if taken == last_step:
            raise PowerCutError
        taken += 1
        return real(module, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(StampModule, "training_step", work)
        with pytest.raises(PowerCutError):
            run_all(run)


def test_the_second_stage_starts_where_the_first_was_best(tmp_path: Path) -> None:
    """A last stage of no learning rate ends with the weights of the one before."""
    path = recipe_file(tmp_path, recipe=TWO_STAGES)
    path.write_text(path.read_text() + "learning_rate = 1e-30\nwarmup_steps = 0\n")
    run = run_of(tmp_path, path)

    run_all(run)

    torch.testing.assert_close(weights_of(run, "train"), weights_of(run, "pretrain"))
    bundle = load_bundle(latest(tmp_path / "bundles" / "tiny"))
    assert isinstance(bundle.build_model(), Qwen)
    assert bundle.manifest.model.default_retention_ratio == 0.5


@pytest.mark.parametrize("last_step", [5, 8, 13])
def test_stages_cut_anywhere_end_like_uncut_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_step: int
) -> None:
    """In the first stage, between the two, in the second: the same weights, bit for bit."""
    whole = run_of(tmp_path, recipe_file(tmp_path, recipe=TWO_STAGES))
    cut = Run(whole.recipe, tmp_path / "cut" / "tiny", tmp_path / "cut" / "bundles")
    for run in (whole, cut):
        steps.prepare(run)
        steps.quantize(run)
    steps.pretrain(whole)
    steps.train(whole)

    run_and_cut(cut, monkeypatch, last_step)
    assert bool(cut.stamp("pretrain")) is (last_step > 5)
    steps.pretrain(cut)
    steps.train(cut)

    torch.testing.assert_close(weights_of(cut, "train"), weights_of(whole, "train"), rtol=0, atol=0)


def test_a_changed_second_stage_keeps_the_first(tmp_path: Path) -> None:
    """Only what comes after the change is made again."""
    path = recipe_file(tmp_path, recipe=TWO_STAGES)
    run_all(run_of(tmp_path, path))
    before = run_of(tmp_path, path)

    path.write_text(path.read_text() + "seed = 7\n")
    after = run_of(tmp_path, path)
    stamps = {stage: after.stamp(stage) for stage in ("pretrain", "train")}
    run_all(after)

    assert before.stamp("pretrain") == stamps["pretrain"]
    assert after.stamp("train") != stamps["train"]


def test_heads_of_another_kind_are_not_taken_over(tmp_path: Path) -> None:
    """A stage that predicts tokens starts with heads of its own, whatever their shapes."""
    path = recipe_file(tmp_path, recipe=TWO_STAGES)
    still = 'learning_rate = 1e-30\nnum_future_items = 1\nauxiliary = "tokens"\n'
    path.write_text(path.read_text() + still)
    run = run_of(tmp_path, path)

    run_all(run)

    one, other = (weights_of(run, stage)["maps.0.weight"] for stage in ("pretrain", "train"))
    assert not torch.equal(one, other)


def checkpoint_recipe(folder: Path) -> Path:
    """Two stages that start from a checkpoint, with an instruction in front."""
    write_checkpoint(folder / "qwen", "qwen3")
    text = recipe_file(folder, max_steps=4, recipe=TWO_STAGES).read_text()
    kept = [line for line in text.splitlines() if not line.startswith(SIZES)]
    text = "\n".join(kept).replace(
        "[model]", f'[model]\ninit_from = "{folder / "qwen"}"\nprefix_tokens = [4, 2]'
    )
    (folder / "tiny.toml").write_text(text + "\n")
    return folder / "tiny.toml"


def test_a_recipe_may_start_from_a_checkpoint(tmp_path: Path) -> None:
    """Its sizes and text rows end up in the bundle; other weights are another training."""
    path = checkpoint_recipe(tmp_path)
    run = run_of(tmp_path, path)

    run_all(run)

    bundle = load_bundle(latest(tmp_path / "bundles" / "tiny"))
    text = load_file(tmp_path / "qwen" / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(bundle.weights["text_embedding.weight"], text)
    assert json.loads(bundle.manifest.model.model_dump_json())["prefix_tokens"] == [4, 2]
    first = run.stamp("pretrain")
    change_tensors(tmp_path / "qwen", added={"model.norm.weight": torch.ones(16)})
    steps.pretrain(run)
    assert run.stamp("pretrain") != first


def test_a_checkpoint_elsewhere_is_the_same_training(tmp_path: Path) -> None:
    """What counts is the content of its files, not where they are."""
    path = checkpoint_recipe(tmp_path)
    run = run_of(tmp_path, path)
    run_all(run)
    before = run.stamp("train")

    (tmp_path / "qwen").rename(tmp_path / "moved")
    path.write_text(path.read_text().replace(f'"{tmp_path / "qwen"}"', f'"{tmp_path / "moved"}"'))
    run_all(run_of(tmp_path, path))

    assert run.stamp("train") == before


DENSE = TWO_STAGES.replace("[trainer]", '[trainer]\nlayout = "dense"')
REFUSED = [
    (RECIPE.replace("[trainer]", '[trainer]\nlayout = "dense"'), 'needs backbone = "qwen"'),
    (DENSE, 'trains without SAP: set pruning = "none"'),
    (TWO_STAGES.replace("d_ff", "prefix_tokens = [3]\nd_ff"), "prefix token 3 is outside"),
    (TWO_STAGES.replace("[model]", "[model]\ninit_from = 3"), "init_from should be a folder"),
    (TWO_STAGES.replace("[model]", '[model]\ninit_from = "no"'), "no: no checkpoint, config.json"),
]


@pytest.mark.parametrize(("recipe", "message"), REFUSED)
def test_stages_that_cannot_be_trained_are_refused(
    tmp_path: Path, recipe: str, message: str
) -> None:
    """When the recipe is read, before anything is done."""
    path = recipe_file(tmp_path, recipe=recipe)

    with pytest.raises(ModelError, match=message):
        read_recipe(str(path))


def test_a_size_beside_a_checkpoint_must_be_its_own(tmp_path: Path) -> None:
    """The recipe may repeat a size, not change it."""
    path = checkpoint_recipe(tmp_path)
    path.write_text(path.read_text().replace("[model]", "[model]\nnum_layers = 3"))
    assert read_recipe(str(path)).name == "tiny"

    change_config(tmp_path / "qwen", num_hidden_layers=5)

    with pytest.raises(ModelError, match="num_layers is 5 and should be 3"):
        read_recipe(str(path))


def test_a_dense_stage_alone_is_served_without_pruning(tmp_path: Path) -> None:
    """With pruning off the recipe is complete."""
    recipe = DENSE.replace("{{ layer = 0, retention_ratio = 0.5 }}", '"none"')

    found = read_recipe(str(recipe_file(tmp_path, recipe=recipe)))

    assert found.model_config_for((4, 4)).default_retention_ratio == 1.0
