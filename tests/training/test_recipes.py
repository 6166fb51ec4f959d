"""The recipes that come with the program can be read, and have the names of their files."""

from pathlib import Path

import pytest

from training.config import RECIPES, read_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_that_comes_along_makes_sense(path: Path, tmp_path: Path) -> None:
    """Whatever data folder it is given."""
    assert read_recipe(path.stem, data=tmp_path).name == path.stem
