"""What only the SQLite store does: it lasts, is shared, refuses foreign files, can fail."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import HistoryStoreError, StartupError
from service.history.sqlite import SqliteHistoryStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's file goes."""
    return tmp_path / "histories.sqlite3"


async def test_histories_outlive_the_store(path: Path) -> None:
    """What was appended is there when the file is opened again."""
    store = SqliteHistoryStore.open(path, max_items=10)
    await store.append("ann", ["a", "b"])
    await store.close()

    again = SqliteHistoryStore.open(path, max_items=10)

    assert await again.get_many(["ann"]) == [["a", "b"]]
    await again.close()


async def test_two_stores_on_one_file_see_each_other(path: Path) -> None:
    """An import beside a running service reaches it, items that are new to it included."""
    first = SqliteHistoryStore.open(path, max_items=10)
    second = SqliteHistoryStore.open(path, max_items=10)
    await first.append("ann", ["a"])
    await second.append("ann", ["b"])
    await first.append("ann", ["c", "b"])

    assert await second.get_many(["ann"]) == [["a", "b", "c", "b"]]

    await first.close()
    await second.close()


async def test_an_import_that_fails_leaves_nothing(path: Path) -> None:
    """One transaction: neither the users before the failure nor their items are kept."""
    store = SqliteHistoryStore.open(path, max_items=10)
    broken = [("ann", ["a"]), (object(), ["b"])]
    with pytest.raises(HistoryStoreError):
        await store.import_many(broken, replace=False)  # type: ignore[arg-type]

    assert await store.count() == 0

    await store.append("ann", ["b", "a"])
    assert await store.get_many(["ann"]) == [["b", "a"]]
    await store.close()


@pytest.mark.parametrize(
    "statement", ["DROP TABLE histories", "UPDATE histories SET packed = x'00'"]
)
async def test_a_damaged_store_raises_its_error(path: Path, statement: str) -> None:
    """Callers see HistoryStoreError, whatever SQLite or the layout says."""
    store = SqliteHistoryStore.open(path, max_items=10)
    await store.append("ann", ["a"])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)

    with pytest.raises(HistoryStoreError):
        await store.get_many(["ann"])
    with pytest.raises(HistoryStoreError):
        await store.append("ann", ["b"])

    await store.close()


async def test_an_item_key_without_an_item_raises_the_stores_error(path: Path) -> None:
    """A key that the items table lacks is damage too."""
    store = SqliteHistoryStore.open(path, max_items=10)
    await store.append("ann", ["a"])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM items")

    with pytest.raises(HistoryStoreError, match="has no item"):
        await store.get_many(["ann"])

    await store.close()


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """One line, with the path."""
    path.write_text("user_id,item_id\n" * 1000, encoding="utf-8")

    with pytest.raises(StartupError, match=r"histories\.sqlite3: file is not a database"):
        SqliteHistoryStore.open(path, max_items=10)


def test_a_database_of_something_else_is_refused(path: Path) -> None:
    """Nobody's tables get ours beside them."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE accounts (id INTEGER)")

    with pytest.raises(StartupError, match="not a version 1 history store"):
        SqliteHistoryStore.open(path, max_items=10)


async def test_a_newer_layout_is_refused(path: Path) -> None:
    """An older program leaves a newer one's file alone."""
    store = SqliteHistoryStore.open(path, max_items=10)
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")

    with pytest.raises(StartupError, match="not a version 1 history store"):
        SqliteHistoryStore.open(path, max_items=10)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """One line, with the path."""
    (tmp_path / "file").touch()

    with pytest.raises(StartupError, match="histories"):
        SqliteHistoryStore.open(tmp_path / "file" / "histories.sqlite3", max_items=10)
