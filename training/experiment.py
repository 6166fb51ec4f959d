"""What an experiment is: recipes, seeds, and axes of variants; every combination is one cell.

An experiment is a TOML file. `[axes.<axis>.<label>]` holds what a variant changes in a recipe,
table by table; `stages` there stands for `trainer` and, where a recipe has one, `pretrainer`.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, JsonValue, model_validator

from training.config import Recipe, read_recipe_table
from training.toml_files import read_toml, toml_path, validated

EXPERIMENTS = Path(__file__).parent / "experiments"

Table = dict[str, JsonValue]
Label = Annotated[str, Field(min_length=1)]


class Experiment(BaseModel, frozen=True, extra="forbid"):
    """A grid of trainings that are measured alike and compared with one of them."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    """The heading of the report."""
    about: str = ""
    """What is asked, in a sentence or two, for the report."""
    recipes: tuple[str, ...] = Field(min_length=1)
    """Names or paths; each one has a table of its own."""
    seeds: tuple[int, ...] = Field(default=(999, 1024, 2025), min_length=1)
    """Of every training; semantic IDs are the same for all seeds."""
    axes: dict[str, dict[Label, Table]] = Field(min_length=1)
    """By axis, by label: what the variant changes in a recipe."""
    baseline: tuple[str, ...]
    """One label per axis: what the others are compared with."""
    for_recipe: dict[str, Table] = {}
    """By a name in `recipes`: what every cell of that recipe changes first."""
    common: Table = {}
    """What every cell changes in its recipe, before its variant does; [evaluation] retention_ratios
    here says at which ratios every model is served, beside its own."""
    measure_cost: bool = True
    """Measure time and memory of a training step, too."""

    @model_validator(mode="after")
    def _the_baseline_is_a_cell(self) -> Self:
        if unknown := sorted(self.for_recipe.keys() - set(self.recipes)):
            raise ValueError(f"for_recipe changes {unknown[0]}, which is not in recipes")
        if any(not variants for variants in self.axes.values()):
            raise ValueError("every axis needs a variant")
        axes = list(self.axes.values())
        if len(axes) != len(self.baseline) or any(
            label not in axis for label, axis in zip(self.baseline, axes, strict=True)
        ):
            raise ValueError(f"baseline must name one label per axis: {', '.join(self.axes)}")
        return self

    @property
    def variants(self) -> tuple[tuple[str, ...], ...]:
        """Every combination of labels, one per axis."""
        return tuple(itertools.product(*self.axes.values()))

    def changes(self, variant: tuple[str, ...]) -> list[Table]:
        """What a variant changes, axis by axis."""
        return [axis[label] for label, axis in zip(variant, self.axes.values(), strict=True)]


@dataclass(frozen=True)
class Cell:
    """One training of an experiment.

    Args:
        recipe_name: the recipe it changes.
        variant: one label per axis.
        seed: of its stages.
        recipe: as it is run.
    """

    recipe_name: str
    variant: tuple[str, ...]
    seed: int
    recipe: Recipe


def read_experiment(name: str) -> Experiment:
    """Read an experiment by path, or by the name of one that comes with the program.

    Raises:
        ModelError: no such experiment, no TOML, or a field that is unknown or out of range.
    """
    table = read_toml(name, EXPERIMENTS, "experiment")
    return validated(Experiment, table, str(toml_path(name, EXPERIMENTS)))


def cells_of(experiment: Experiment, data: Path | None = None) -> list[Cell]:
    """All cells, seed by seed, so that every variant has its first result early.

    Args:
        experiment: the grid.
        data: the folder that `{data}` stands for in the recipes.

    Raises:
        ModelError: a recipe that does not exist, or that a variant makes impossible.
    """
    tables = {
        recipe_name(recipe): _changed(
            read_recipe_table(recipe, data), experiment.for_recipe.get(recipe, {})
        )
        for recipe in experiment.recipes
    }
    return [
        Cell(name, variant, seed, _recipe(table, experiment, name, variant, seed))
        for seed in experiment.seeds
        for name, table in tables.items()
        for variant in experiment.variants
    ]


def recipe_name(recipe: str) -> str:
    """What a recipe given by name or path is called in reports."""
    return Path(recipe).name.removesuffix(".toml")


def _recipe(
    table: Table, experiment: Experiment, name: str, variant: tuple[str, ...], seed: int
) -> Recipe:
    seeded: Table = {"stages": {"seed": seed}}
    for change in (experiment.common, *experiment.changes(variant), seeded):
        table = _changed(table, change)
    where = f"{experiment.name}: {name}, {' and '.join(variant)}"
    return validated(Recipe, table, where)


def merged(table: Mapping[str, JsonValue], change: Mapping[str, JsonValue]) -> Table:
    """A table with some values replaced; tables in it are merged likewise, all others are not."""
    found = dict(table)
    for name, value in change.items():
        old = found.get(name)
        both_tables = isinstance(old, dict) and isinstance(value, dict)
        found[name] = merged(old, value) if both_tables else value  # type: ignore[arg-type]
    return found


def _changed(table: Table, change: Table) -> Table:
    return merged(table, _for_stages(change, table))


def _for_stages(change: Table, table: Table) -> Table:
    """The change with its table `stages` copied to every stage that the recipe has."""
    found = {name: value for name, value in change.items() if name != "stages"}
    shared = change.get("stages")
    if not isinstance(shared, dict):
        return found
    for stage in ("pretrainer", "trainer"):
        own = found.get(stage, {})
        if stage in table and isinstance(own, dict):
            found[stage] = merged(shared, own)
    return found
