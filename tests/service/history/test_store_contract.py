"""What every history store promises, whatever it is made of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.history import HistoryStore, open_store

URLS = {"memory": "memory://", "sqlite": "sqlite:///{folder}/histories.sqlite3"}
MAX_ITEMS = 3


@pytest.fixture(params=URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HistoryStore]:
    """An empty store of each kind."""
    store = open_store(URLS[request.param].format(folder=tmp_path), max_items=MAX_ITEMS)
    yield store
    await store.close()


async def test_a_user_nobody_knows_has_the_empty_history(store: HistoryStore) -> None:
    """Absence is no error."""
    assert await store.get_many(["nobody"]) == [[]]


async def test_no_users_have_no_histories(store: HistoryStore) -> None:
    """The empty question has the empty answer."""
    assert await store.get_many([]) == []


async def test_histories_come_in_the_order_of_the_question(store: HistoryStore) -> None:
    """Known, unknown and repeated users each get their own history."""
    await store.append("ann", ["a"])
    await store.append("bob", ["b", "a"])

    found = await store.get_many(["bob", "nobody", "ann", "bob"])

    assert found == [["b", "a"], [], ["a"], ["b", "a"]]


async def test_a_full_history_forgets_its_oldest_items(store: HistoryStore) -> None:
    """Appending beyond max_items drops from the old end and keeps the order."""
    await store.append("ann", ["a", "b"])
    await store.append("ann", ["c", "d"])

    assert await store.get_many(["ann"]) == [["b", "c", "d"]]


async def test_the_same_item_may_come_twice(store: HistoryStore) -> None:
    """A history is a sequence, not a set."""
    await store.append("ann", ["a", "b", "a"])

    assert await store.get_many(["ann"]) == [["a", "b", "a"]]


async def test_ids_are_any_text(store: HistoryStore) -> None:
    """Nothing in an id means anything to the store."""
    user_id, item_ids = "u:1 {}\x00'", ["ä/☃", "'; --", "\x00"]
    await store.append(user_id, item_ids)

    assert await store.get_many([user_id, "u:1 {}"]) == [item_ids, []]


async def test_an_import_keeps_the_newest_items(store: HistoryStore) -> None:
    """Longer histories are cut as they would be by appending."""
    num_written = await store.import_many([("ann", ["a", "b", "c", "d"])], replace=False)

    assert num_written == 1
    assert await store.get_many(["ann"]) == [["b", "c", "d"]]


async def test_an_import_leaves_known_users_alone(store: HistoryStore) -> None:
    """What happened since is not undone by importing the same file again."""
    histories = [("ann", ["a"]), ("bob", ["b"])]
    await store.import_many(histories, replace=False)
    await store.append("ann", ["new"])

    num_written = await store.import_many([*histories, ("cid", ["c"])], replace=False)

    assert num_written == 1
    assert await store.get_many(["ann", "bob", "cid"]) == [["a", "new"], ["b"], ["c"]]


async def test_a_replacing_import_overwrites(store: HistoryStore) -> None:
    """With `replace` the file is the truth, for the users it names."""
    await store.append("ann", ["old"])
    await store.append("bob", ["stays"])

    num_written = await store.import_many([("ann", ["a"])], replace=True)

    assert num_written == 1
    assert await store.get_many(["ann", "bob"]) == [["a"], ["stays"]]


async def test_an_empty_history_counts_as_a_user(store: HistoryStore) -> None:
    """An import may name a user without items."""
    await store.import_many([("ann", [])], replace=False)

    assert await store.count() == 1
    assert await store.get_many(["ann"]) == [[]]


async def test_a_deleted_user_is_forgotten(store: HistoryStore) -> None:
    """Deleting says whether there was anything, and leaves nothing."""
    await store.append("ann", ["a"])
    await store.append("bob", ["b"])

    deleted = [await store.delete("ann"), await store.delete("ann")]

    assert deleted == [True, False]
    assert await store.get_many(["ann", "bob"]) == [[], ["b"]]
    assert await store.count() == 1


async def test_what_a_caller_does_to_a_result_stays_there(store: HistoryStore) -> None:
    """Histories are copies."""
    await store.append("ann", ["a"])
    (await store.get_many(["ann"]))[0].append("b")

    assert await store.get_many(["ann"]) == [["a"]]
