"""What only the SQLite store does: it lasts, is shared, refuses foreign files, can fail."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import HistoryStoreError, StartupError, UnreadableHistoryError
from service.history.sqlite import SqliteHistoryStore
from service.history.store import REMEMBER_S, Append, NewItem
from tests.service.history.conftest import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's file goes."""
    return tmp_path / "histories.sqlite3"


def execute(path: Path, statement: str) -> None:
    """Change the file behind the store's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


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


async def test_a_damaged_store_raises_its_error(path: Path) -> None:
    """Callers see HistoryStoreError, whatever SQLite says."""
    store = SqliteHistoryStore.open(path, max_items=10)
    await store.append("ann", ["a"])
    execute(path, "DROP TABLE histories")

    with pytest.raises(HistoryStoreError):
        await store.get_many(["ann"])
    with pytest.raises(HistoryStoreError):
        await store.append("ann", ["b"])

    await store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE histories SET packed = x'00' WHERE user_id = 'ann'",
        "DELETE FROM items WHERE item_id = 'a'",
    ],
)
async def test_a_damaged_history_is_one_users(path: Path, statement: str) -> None:
    """It reads as None; the other users' histories are as they were."""
    store = SqliteHistoryStore.open(path, max_items=10)
    await store.append("ann", ["a"])
    await store.append("bob", ["b"])
    await store.close()
    execute(path, statement)
    store = SqliteHistoryStore.open(path, max_items=10)

    assert await store.get_many(["ann", "bob"]) == [None, ["b"]]
    assert [chunk async for chunk in store.export()] == [[("ann", None), ("bob", ["b"])]]

    await store.close()


async def test_a_history_of_another_layout_is_not_appended_to(path: Path) -> None:
    """Nothing is overwritten that cannot be read; until it is deleted."""
    store = SqliteHistoryStore.open(path, max_items=10)
    await store.append("ann", ["a"])
    execute(path, "UPDATE histories SET packed = x'24'")
    appends = [Append(user_id, [NewItem("b")]) for user_id in ("ann", "bob")]

    refused, appended = await store.append_many(appends)
    await store.delete("ann")
    await store.append("ann", ["c"])

    assert isinstance(refused, UnreadableHistoryError)
    assert appended == 1
    assert await store.get_many(["ann"]) == [["c"]]
    await store.close()


async def test_a_file_from_before_events_opens(path: Path) -> None:
    """What it lacks is added; what it holds stays."""
    store = SqliteHistoryStore.open(path, max_items=10)
    await store.append("ann", ["a"])
    await store.close()
    execute(path, "DROP TABLE applied")
    execute(path, "DROP TABLE claims")

    again = SqliteHistoryStore.open(path, max_items=10)

    assert await again.append_many([Append("ann", [NewItem("b", bytes(16))])]) == [1]
    assert await again.get_many(["ann"]) == [["a", "b"]]
    await again.close()


async def test_what_is_forgotten_leaves_the_file(path: Path, clock: Clock) -> None:
    """Tokens and claims do not pile up, and a claim may be made anew."""
    store = SqliteHistoryStore.open(path, max_items=10, clock=clock)
    for day in range(3):
        await store.append_many([Append(f"u{day}", [NewItem("a", bytes(16))])])
        assert await store.claim(bytes(16), bytes([day] * 16))
        clock.now_s += REMEMBER_S

    with closing(sqlite3.connect(path)) as connection:
        tables = ("applied", "claims")
        counts = [connection.execute(f"SELECT count(*) FROM {t}").fetchone() for t in tables]  # noqa: S608

    assert counts == [(1,), (1,)]
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
