"""An experiment becomes a grid of recipes; what it says wrongly is said in one line."""

from pathlib import Path

import pytest
from pydantic import JsonValue

from model.errors import ModelError
from tests.training.experiments import EXPERIMENT, experiment_file
from tests.training.recipes import RECIPE
from training.experiment import EXPERIMENTS, cells_of, merged, read_experiment


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_experiment_that_comes_along_makes_sense(path: Path, tmp_path: Path) -> None:
    """Each of its cells is a recipe that can be run."""
    experiment = read_experiment(path.stem)

    cells = cells_of(experiment, data=tmp_path)

    assert experiment.name == path.stem
    assert len(cells) == len(experiment.recipes) * len(experiment.variants) * len(experiment.seeds)


def test_a_cell_is_its_recipe_with_the_changes_of_its_variant(tmp_path: Path) -> None:
    """Changes reach into tables, `stages` is both stages, and the seed is that of the cell."""
    cells = cells_of(read_experiment(str(experiment_file(tmp_path))))

    assert [(cell.variant, cell.seed) for cell in cells] == [
        (("off",), 1),
        (("on",), 1),
        (("off",), 2),
        (("on",), 2),
    ]
    off, on = cells[0].recipe, cells[1].recipe
    assert off.model["pruning"] == "none"
    assert on.model["pruning"] == {"layer": 0, "retention_ratio": 0.5}
    assert off.pretrainer is not None
    assert {stage.num_future_items for stage in (off.pretrainer, off.trainer)} == {0}
    assert {stage.seed for stage in (off.pretrainer, off.trainer)} == {1}
    assert off.evaluation.retention_ratios == ()


def test_a_recipe_with_one_stage_gets_changes_of_stages_once(tmp_path: Path) -> None:
    """No stage appears that the recipe does not have; what a stage says itself wins."""
    text = EXPERIMENT + "both = { stages = { seed = 0 }, trainer = { num_future_items = 1 } }\n"
    text = text.replace("both = { stages = { seed = 0 }", "both = {{ stages = {{ patience = 3 }}")
    text = text.replace("trainer = { num_future_items = 1 } }", "trainer = {{ patience = 4 }} }}")
    cells = cells_of(read_experiment(str(experiment_file(tmp_path, text, RECIPE))))

    assert cells[0].recipe.pretrainer is None
    assert cells[2].recipe.trainer.patience == 4


def test_a_recipe_may_be_changed_for_all_its_variants(tmp_path: Path) -> None:
    """E.g. to train it for fewer steps; the other recipes stay as they are."""
    change = '[for_recipe."{recipe}"]\ntrainer.patience = 3\n[common]'
    text = EXPERIMENT.replace("[common]", change)

    cells = cells_of(read_experiment(str(experiment_file(tmp_path, text))))

    assert {cell.recipe.trainer.patience for cell in cells} == {3}


def test_merging_replaces_values_and_leaves_the_original_alone() -> None:
    """A table that replaces a plain value replaces it whole."""
    table: dict[str, JsonValue] = {"a": {"b": 1, "c": 2}, "d": "none"}

    found = merged(table, {"a": {"c": 3}, "d": {"e": 4}})

    assert found == {"a": {"b": 1, "c": 3}, "d": {"e": 4}}
    assert table == {"a": {"b": 1, "c": 2}, "d": "none"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('baseline = ["off"]', 'baseline = ["of"]', "one label per axis: pruning"),
        ('baseline = ["off"]', 'baseline = ["off", "on"]', "one label per axis: pruning"),
        ("seeds = [1, 2]", "seeds = []", "seeds: "),
        ("[common]", "[for_recipe.tiny]\n[common]", "changes tiny, which is not in recipes"),
        ('name = "small"', "name = 'small", "not TOML"),
        ("[axes.pruning]", "[axes.other]\n[axes.pruning]", "every axis needs a variant"),
        ('pruning = "none"', 'pruning = "some"', "small: tiny, off: .*no preset 'some'"),
    ],
)
def test_a_wrong_experiment_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """In one line that says where and what."""
    path = experiment_file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")

    with pytest.raises(ModelError, match=message):
        cells_of(read_experiment(str(path)))


def test_an_unknown_experiment_lists_the_known_ones() -> None:
    """As with recipes."""
    with pytest.raises(ModelError, match=r"no experiment 'ablations'; .*one of: ablation, "):
        read_experiment("ablations")


def test_a_recipe_that_reads_a_folder_asks_for_it(tmp_path: Path) -> None:
    """`{data}` stands for a folder that only the command line knows."""
    path = experiment_file(tmp_path)
    recipe = tmp_path / "tiny.toml"
    text = recipe.read_text(encoding="utf-8").replace(str(tmp_path / "raw"), "{data}")
    recipe.write_text(text, encoding="utf-8")

    with pytest.raises(ModelError, match="give it with --data FOLDER"):
        cells_of(read_experiment(str(path)))

    cells = cells_of(read_experiment(str(path)), data=tmp_path / "raw")
    assert cells[0].recipe.dataset.folder == tmp_path / "raw"
