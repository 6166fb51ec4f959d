"""HistoryFile: parquet in chunks, refused in one line."""

from pathlib import Path

import polars as pl
import pytest

from service.errors import StartupError
from service.history.importing import COLUMNS, HistoryFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file goes."""
    return tmp_path / "histories.parquet"


def test_chunks_hold_every_user_in_order(path: Path) -> None:
    """Other columns are ignored, the last chunk is the rest, an empty history is one."""
    items = {"ann": ["a", "b"], "bob": [], "cid": ["c"]}
    frame = pl.DataFrame(
        {"extra": [1, 2, 3], "user_id": list(items), "item_ids": list(items.values())},
        schema_overrides={"item_ids": pl.List(pl.String)},
    )
    frame.write_parquet(path)

    file = HistoryFile.open(path)

    assert file.num_users == 3
    assert list(file.chunks(2)) == [[("ann", ["a", "b"]), ("bob", [])], [("cid", ["c"])]]


def test_no_users_are_no_chunks(path: Path) -> None:
    """An empty file is a valid one."""
    pl.DataFrame(schema=COLUMNS).write_parquet(path)

    assert list(HistoryFile.open(path).chunks()) == []


@pytest.mark.parametrize("content", [None, b"", b"user_id,item_ids\n"])
def test_what_is_no_parquet_is_refused(path: Path, content: bytes | None) -> None:
    """Missing, empty or another format."""
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(StartupError, match="not a readable parquet file"):
        HistoryFile.open(path)


def test_wrong_columns_are_refused(path: Path) -> None:
    """The line names the column, its type and the right one."""
    pl.DataFrame({"user_id": ["ann"], "item_ids": [[1, 2]]}).write_parquet(path)

    with pytest.raises(StartupError, match=r"item_ids is List\(Int64\), expected List\(String\)"):
        HistoryFile.open(path)


def test_a_missing_column_is_refused(path: Path) -> None:
    """The line names it."""
    pl.DataFrame({"user": ["ann"], "item_ids": [["a"]]}).write_parquet(path)

    with pytest.raises(StartupError, match="user_id is missing, expected String"):
        HistoryFile.open(path)


@pytest.mark.parametrize(
    "row", [(None, ["a"]), ("bob", None), ("bob", ["a", None])], ids=["user", "items", "item"]
)
def test_a_null_is_refused(path: Path, row: tuple[object, object]) -> None:
    """The line names the row."""
    rows = [("ann", ["a"]), row]
    pl.DataFrame(rows, schema=COLUMNS, orient="row").write_parquet(path)

    with pytest.raises(StartupError, match=r"row 1 \(counted from 0\) holds a null"):
        list(HistoryFile.open(path).chunks())
