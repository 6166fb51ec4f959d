"""The recipes that come with the program can be read, and have the names of their files."""

import datetime as dt
from pathlib import Path

import pytest

from tests.training.recipes import recipe_file
from training.config import RECIPES, read_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_that_comes_along_makes_sense(path: Path, tmp_path: Path) -> None:
    """Whatever data folder it is given."""
    assert read_recipe(path.stem, data=tmp_path).name == path.stem


def test_a_recipe_may_hold_days(tmp_path: Path) -> None:
    """TOML has dates of its own; a split by time is where a recipe names some."""
    path = recipe_file(tmp_path)
    days = '[split]\nkind = "time"\ndates = [2014-01-01, 2014-02-01]\n'
    path.write_text(path.read_text(encoding="utf-8") + days, encoding="utf-8")

    assert read_recipe(str(path)).split.dates == (dt.date(2014, 1, 1), dt.date(2014, 2, 1))
