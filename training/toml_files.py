"""TOML files that a person writes: found by path or by name, and refused in one line."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from model.errors import ModelError

Model = TypeVar("Model", bound=BaseModel)


def toml_path(name: str, folder: Path) -> Path:
    """A path that ends in .toml as it is; else the file of that name in `folder`."""
    return Path(name) if name.endswith(".toml") else folder / f"{name}.toml"


def read_toml(name: str, folder: Path, what: str) -> dict[str, JsonValue]:
    """What stands in a file.

    Args:
        name: a path that ends in .toml, or the name of a file in `folder`.
        folder: the files that come with the program.
        what: they are, e.g. "recipe".

    Raises:
        ModelError: no such file, or no TOML.
    """
    path = toml_path(name, folder)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(each.stem for each in folder.glob("*.toml")))
        raise ModelError(f"no {what} {name!r}; give a .toml file or one of: {known}") from error
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{path}: not TOML: {error}") from error


def validated(model: type[Model], table: dict[str, JsonValue], where: str) -> Model:
    """The table as a model, or a ModelError that says where and what.

    Args:
        model: what it should be.
        table: as in a file.
        where: it came from.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{where}: {field}: {first['msg']}") from error
