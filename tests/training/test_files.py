"""Files are whole or absent."""

from pathlib import Path

import pytest

from training.files import atomic_path


def test_a_file_appears_under_its_name_when_it_is_whole(tmp_path: Path) -> None:
    """Parents are made, and no temporary file stays."""
    target = tmp_path / "a" / "b.txt"

    with atomic_path(target) as part:
        part.write_text("whole")

    assert target.read_text() == "whole"
    assert [path.name for path in target.parent.iterdir()] == ["b.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """The target keeps its content and the half-written file goes."""
    target = tmp_path / "b.txt"
    target.write_text("old")

    with pytest.raises(ZeroDivisionError), atomic_path(target) as part:
        part.write_text(f"{1 / 0}")

    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]
