"""A small experiment over the made-up catalog: two variants of a two-stage recipe, two seeds."""

from pathlib import Path

from tests.training.recipes import TWO_STAGES, recipe_file

EXPERIMENT = """
name = "small"
title = "Pruned or not"
about = "A question."
recipes = ["{recipe}"]
seeds = [1, 2]
baseline = ["off"]

[common]
evaluation = {{ retention_ratios = [] }}

[axes.pruning]
off = {{ model = {{ pruning = "none" }}, stages = {{ num_future_items = 0 }} }}
on = {{ stages = {{ num_future_items = 0 }} }}
"""


def experiment_file(folder: Path, text: str = EXPERIMENT, recipe: str = TWO_STAGES) -> Path:
    """The experiment, its recipe and its data."""
    path = folder / "small.toml"
    text = text.format(recipe=recipe_file(folder, max_steps=4, recipe=recipe))
    path.write_text(text, encoding="utf-8")
    return path
