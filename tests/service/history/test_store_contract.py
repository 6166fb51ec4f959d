"""What every history store promises, whatever it is made of."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.history import HistoryStore, open_store
from service.history.store import EXPORT_USERS, REMEMBER_S, Append, NewItem
from tests.service.history.conftest import Clock
from tests.service.history.servers import PATIENCE

KINDS = ("memory", "sqlite", "valkey", "debian", "cluster")
MAX_ITEMS = 3


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[HistoryStore]:
    """An empty store of each kind."""
    url = request.getfixturevalue(f"{request.param}_url")
    store = open_store(url, max_items=MAX_ITEMS, clock=clock, patience=PATIENCE)
    yield store
    await store.close()


def token(number: int) -> bytes:
    """A token, another for each number."""
    return number.to_bytes(16, "big")


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
    user_ids = ["u:1 {}\x00'", "", "%", "{", "}", "}{", "%7D", "*", "ä/☃"]
    item_ids = ["ä/☃", "'; --", "\x00"]
    await store.append_many([Append(user_id, [NewItem(user_id)]) for user_id in user_ids])
    await store.append("items", item_ids)

    assert await store.get_many(user_ids) == [[user_id] for user_id in user_ids]
    assert await store.get_many(["items", "u:1 {}"]) == [item_ids, []]
    assert {user_id for chunk in [c async for c in store.export()] for user_id, _ in chunk} == {
        *user_ids,
        "items",
    }


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
    (history,) = await store.get_many(["ann"])
    assert history is not None
    history.append("b")

    assert await store.get_many(["ann"]) == [["a"]]


async def test_many_users_get_their_items_at_once(store: HistoryStore) -> None:
    """More than any store takes in one go; each of them is told how many were new."""
    appends = [Append(str(n), [NewItem(f"i{n}"), NewItem("all")]) for n in range(300)]

    appended = await store.append_many(appends)

    assert appended == [2] * 300
    assert await store.get_many(["0", "299"]) == [["i0", "all"], ["i299", "all"]]


async def test_a_token_is_applied_once_per_user(store: HistoryStore) -> None:
    """In a second call, in the same call; another user may have the same token."""
    first = [NewItem("a", token(1)), NewItem("b", token(2)), NewItem("a", token(1))]
    again = [NewItem("b", token(2)), NewItem("c", token(3)), NewItem("plain")]

    counts = [
        await store.append_many([Append("ann", first)]),
        await store.append_many([Append("ann", again), Append("bob", [NewItem("b", token(2))])]),
        await store.append_many([Append("ann", first)]),
    ]

    assert counts == [[2], [2, 1], [0]]
    assert await store.get_many(["ann", "bob"]) == [["b", "c", "plain"], ["b"]]


async def test_a_token_is_forgotten_after_a_day(store: HistoryStore, clock: Clock) -> None:
    """Then the same token is new again, and no sooner."""
    appends = [Append("ann", [NewItem("a", token(1))])]
    await store.append_many(appends)

    clock.now_s += REMEMBER_S - 1
    before = await store.append_many(appends)
    clock.now_s += 1
    after = await store.append_many(appends)

    assert (before, after) == ([0], [1])
    assert await store.get_many(["ann"]) == [["a", "a"]]


async def test_nothing_new_makes_no_history(store: HistoryStore) -> None:
    """A user whose items were all known, or who got none, need not exist."""
    await store.append_many([Append("ann", [])])

    assert await store.count() == 0


async def test_a_key_belongs_to_one_fingerprint(store: HistoryStore) -> None:
    """The first one claims it; it may come again, another may not."""
    claims = [
        (token(1), token(7)),
        (token(1), token(7)),
        (token(1), token(8)),
        (token(2), token(8)),
    ]

    claimed = [await store.claim(key, fingerprint) for key, fingerprint in claims]

    assert claimed == [True, True, False, True]


async def test_a_deleted_users_tokens_are_forgotten(store: HistoryStore) -> None:
    """Nothing about the user stays."""
    appends = [Append("ann", [NewItem("a", token(1))])]
    await store.append_many(appends)
    await store.delete("ann")

    assert await store.append_many(appends) == [1]


async def test_an_export_holds_every_user_once(store: HistoryStore) -> None:
    """More than one chunk of them, and the empty history, too."""
    histories = {f"u{n}": [f"i{n % 7}"] for n in range(EXPORT_USERS + 5)} | {"empty": []}
    await store.import_many(list(histories.items()), replace=False)

    exported = [pair async for chunk in store.export() for pair in chunk]

    assert sorted(exported) == sorted(histories.items())


steps = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob"]),
        st.lists(st.tuples(st.sampled_from("abcde"), st.none() | st.integers(0, 3)), max_size=5),
    ),
    max_size=8,
)


@given(steps=steps)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_appending_comes_to_what_a_list_would_be(
    store: HistoryStore, steps: list[tuple[str, list[tuple[str, int | None]]]]
) -> None:
    """Against a plain list that remembers tokens and is cut at the end."""
    lists: dict[str, list[str]] = {"ann": [], "bob": []}
    for user_id in lists:
        await store.delete(user_id)
    seen = set()
    for user_id, pairs in steps:
        items = [NewItem(item, None if n is None else token(n)) for item, n in pairs]
        await store.append_many([Append(user_id, items)])
        for item, n in pairs:
            lists[user_id] += [item] * ((user_id, n) not in seen)
            seen |= {(user_id, n)} if n is not None else set()

    assert await store.get_many(["ann", "bob"]) == [
        history[-MAX_ITEMS:] for history in lists.values()
    ]
