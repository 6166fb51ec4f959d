"""What only the Redis store does: its layout, its times to live, its registry of items."""

from collections.abc import AsyncIterator
from contextlib import closing

import pytest
import redis

from service.errors import HistoryStoreError, StartupError, UnreadableHistoryError
from service.history import HistoryStore, open_store
from service.history.packing import pack
from service.history.redis import CHUNK, candidates
from service.history.redis_commands import Command
from service.history.redis_single import SingleRedis
from service.history.scripts import APPEND_SHA
from service.history.store import REMEMBER_S, Append, NewItem
from tests.service.history.servers import PATIENCE, VALKEY, Server, running

TTL_S = 1_000
TOKEN = bytes(range(16))


@pytest.fixture
def url(valkey: Server) -> str:
    """A store that has the server for itself."""
    with closing(valkey.client()) as client:
        client.flushall()
    return f"{valkey.url}?ttl_s={TTL_S}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[HistoryStore]:
    """The store at the URL."""
    store = open_store(url, max_items=10, patience=PATIENCE)
    yield store
    await store.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[HistoryStore]:
    """The same store as another process has it."""
    store = open_store(url, max_items=10, patience=PATIENCE)
    yield store
    await store.close()


@pytest.fixture
def raw(valkey: Server) -> redis.Redis:
    """The server itself."""
    return valkey.client()


async def test_the_keys_are_what_is_written_down(store: HistoryStore, raw: redis.Redis) -> None:
    """Other programs, and older versions of this one, read the same."""
    await store.append_many([Append("a{b}%", [NewItem("x", TOKEN), NewItem("y")])])
    await store.claim(bytes(16), TOKEN)
    key_x, key_y = candidates("x")[0], candidates("y")[0]

    assert raw.get("stamp:h:{a%7Bb%7D%25}") == pack([key_x, key_y])
    assert raw.zscore("stamp:t:{a%7Bb%7D%25}", TOKEN) is not None
    assert raw.hgetall("stamp:items") == {str(key_x).encode(): b"x", str(key_y).encode(): b"y"}
    assert raw.get(f"stamp:c:{'00' * 16}") == TOKEN
    assert len(raw.keys()) == 4


async def test_only_the_registry_stays_for_ever(store: HistoryStore, raw: redis.Redis) -> None:
    """Histories live as long as the URL says, tokens and claims for a day."""
    await store.append_many([Append("ann", [NewItem("x", TOKEN)]), Append("bob", [NewItem("y")])])
    await store.import_many([("cid", ["z"])], replace=False)
    await store.claim(bytes(16), TOKEN)

    ttls = {key.decode(): raw.ttl(key) for key in raw.scan_iter() if isinstance(key, bytes)}

    assert ttls.pop("stamp:items") == -1
    assert ttls.pop(f"stamp:c:{'00' * 16}") == pytest.approx(REMEMBER_S, abs=5)
    assert ttls.pop("stamp:t:{ann}") == pytest.approx(REMEMBER_S, abs=5)
    assert 0 < ttls.pop("stamp:t:{bob}") <= 10
    assert sorted(ttls) == [f"stamp:h:{{{name}}}" for name in ("ann", "bob", "cid")]
    assert all(ttl == pytest.approx(TTL_S, abs=5) for ttl in ttls.values())


async def test_two_processes_share_the_registry(store: HistoryStore, other: HistoryStore) -> None:
    """Items that are new to the one have the key that the other gave them."""
    await store.append("ann", ["a", "b"])
    await other.append("ann", ["b", "c"])

    assert await store.get_many(["ann"]) == [["a", "b", "b", "c"]]


async def test_items_that_hash_alike_get_keys_of_their_own(
    store: HistoryStore, other: HistoryStore, raw: redis.Redis
) -> None:
    """The second one takes the next part of its hash, in every process."""
    first, second, *_ = candidates("a")
    raw.hset("stamp:items", str(first), "somebody else")
    await store.append("ann", ["a"])
    await other.append("ann", ["a"])

    assert raw.get("stamp:h:{ann}") == pack([second, second])
    assert await other.get_many(["ann"]) == [["a", "a"]]


async def test_an_item_without_a_free_key_is_an_error(
    store: HistoryStore, raw: redis.Redis
) -> None:
    """All eight of its keys are somebody else's."""
    raw.hset("stamp:items", mapping={str(key): "somebody else" for key in candidates("a")})

    with pytest.raises(HistoryStoreError, match="no key left"):
        await store.append("ann", ["a"])


async def test_what_was_done_before_a_failure_is_told(
    store: HistoryStore, raw: redis.Redis
) -> None:
    """Users of one round trip are in, those of the next have its error."""
    raw.hset("stamp:items", mapping={str(key): "somebody else" for key in candidates("a")})
    appends = [Append(str(n), [NewItem("b")]) for n in range(CHUNK)]

    appended = await store.append_many([*appends, Append("ann", [NewItem("a")])])

    assert appended[:-1] == [1] * CHUNK
    assert isinstance(appended[-1], HistoryStoreError)


async def test_a_lost_registry_comes_back_as_it_was(
    store: HistoryStore, other: HistoryStore, raw: redis.Redis
) -> None:
    """A history that names items nobody knows is unreadable until they come again."""
    await store.append("ann", ["a"])
    raw.delete("stamp:items")

    before = await other.get_many(["ann"])
    await other.append("bob", ["a"])

    assert before == [None]
    assert await other.get_many(["ann", "bob"]) == [["a"], ["a"]]


async def test_a_server_that_forgot_the_scripts_gets_them_again(
    store: HistoryStore, raw: redis.Redis
) -> None:
    """As after a restart or a failover."""
    await store.append("ann", ["a"])
    raw.script_flush()
    await store.append("ann", ["b"])

    assert await store.get_many(["ann"]) == [["a", "b"]]


async def test_a_damaged_history_is_one_users(store: HistoryStore, raw: redis.Redis) -> None:
    """It reads as None and is left as it is; the other users notice nothing."""
    await store.append("bob", ["a"])
    damaged = {"cut": b"\x14\x01\x00", "newer": b"\x24", "empty": b""}
    for name, value in damaged.items():
        raw.set(f"stamp:h:{{{name}}}", value)

    refused = await store.append_many([Append(name, [NewItem("b")]) for name in damaged])
    histories = await store.get_many([*damaged, "bob"])

    assert [type(error) for error in refused] == [UnreadableHistoryError] * 3
    assert histories == [None, None, None, ["a"]]
    assert {name: raw.get(f"stamp:h:{{{name}}}") for name in damaged} == damaged


@pytest.mark.parametrize("kind", "ht")
async def test_a_value_of_another_type_is_left_alone(
    store: HistoryStore, raw: redis.Redis, kind: str
) -> None:
    """Nothing of the append is done; deleting the user mends it."""
    raw.lpush(f"stamp:{kind}:{{ann}}", "a list")

    (refused,) = await store.append_many([Append("ann", [NewItem("a", TOKEN)])])
    num_keys_after = len(raw.keys("stamp:[ht]:*"))
    await store.delete("ann")

    assert isinstance(refused, UnreadableHistoryError)
    assert num_keys_after == 1
    assert await store.append_many([Append("ann", [NewItem("a", TOKEN)])]) == [1]


async def test_a_second_try_of_an_append_changes_nothing(valkey: Server) -> None:
    """The client sends again what was applied, if only the answer was lost."""
    client = SingleRedis({"path": f"{valkey.folder}/socket", **unix()}, timeout_s=1.0)
    keys = [b"again:h:{ann}", b"again:t:{ann}"]
    args = (10, 0, 1_000, REMEMBER_S, bytes(16), 10, b"\x01\x00\x00\x00", b"")
    command = Command.script(APPEND_SHA, keys, *args, *args[-2:])

    replies = [(await client.run([command]))[0] for _ in range(2)]

    assert replies == [2, 2]
    assert await client.get([keys[0]]) == [pack([1, 1])]
    await client.close()


def unix() -> dict[str, object]:
    """How a client without a URL connects to a Unix socket."""
    return {"connection_class": redis.asyncio.UnixDomainSocketConnection}


async def test_a_password_is_used_and_never_shown() -> None:
    """The right one opens; with a wrong one nothing works, and no message tells it."""
    with running(VALKEY, "--requirepass", "right") as server:
        stores = [
            open_store(f"unix://{server.folder}/socket?password={word}", max_items=10)
            for word in ("right", "wrong")
        ]
        await stores[0].append("ann", ["a"])
        with pytest.raises(HistoryStoreError) as error:
            await stores[1].append("ann", ["a"])
        for store in stores:
            await store.close()

    assert "wrong" not in error.value.detail.lower().replace("wrongpass", "")


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:secret@host?ttl_s=0",
        "redis://ann:secret@host?ttl_s=day",
        "redis://ann:secret@host?prefix=a*",
        "redis://ann:secret@host?prefix=",
        "redis://ann:secret@host?no_such_option=1",
        "redis://ann:secret@host?socket_timeout=x",
        "redis://ann:secret@host:port",
        "redis+cluster://ann:secret@host/1",
        "redis+cluster://ann:secret@host?no_such_option=1",
        "unix://ann@/socket?password=secret&ttl_s=-1",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    """In one line, before anything is asked."""
    with pytest.raises(StartupError, match=r"^history store") as error:
        open_store(url, max_items=1)

    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["rediss://host", "rediss+cluster://a,b:7000", "redis://[::1]:1/2"])
async def test_a_store_opens_though_nobody_is_there(url: str) -> None:
    """The service starts, and answers without histories until the store is up."""
    store = open_store(url, max_items=1)

    assert store.breaker_state == "closed"
    await store.close()
