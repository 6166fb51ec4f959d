"""The Redis store while its servers fail: every call ends soon, and all is well soon after."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress

import pytest

from service.errors import HistoryStoreError, StoreUnreachableError
from service.history import HistoryStore, open_store
from service.history.breaker import MAX_FAILURES
from service.history.store import Append, NewItem
from tests.service.history.servers import (
    PATIENCE,
    PATIENCE_S,
    VALKEY,
    Server,
    running,
    running_cluster,
)

CALL_S = 0.5  # no call takes longer, whatever fails
REFUSAL_S = 0.001  # nor this, once the breaker is open
RECOVERY_S = 3.0


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that a test may break."""
    with running(VALKEY) as server:
        yield server


@pytest.fixture
async def store(server: Server) -> AsyncIterator[HistoryStore]:
    """A store on it in which Ann has a history."""
    store = open_store(server.url, max_items=10)
    await store.append("ann", ["a"])
    yield store
    await store.close()


async def seconds_to_fail(store: HistoryStore, *, write: bool = False) -> float:
    """How long a call takes that must fail since nobody answers."""
    began_s = time.perf_counter()
    with pytest.raises(StoreUnreachableError):
        await (store.append("ann", ["b"]) if write else store.get_many(["ann"]))
    return time.perf_counter() - began_s


async def seconds_to_recover(store: HistoryStore) -> float:
    """How long it takes until Ann's history is there again."""
    began_s = time.perf_counter()
    while time.perf_counter() - began_s < PATIENCE_S:
        with suppress(HistoryStoreError):
            if await store.get_many(["ann"]) not in ([None], [[]]):
                break
    return time.perf_counter() - began_s


async def test_a_frozen_server_holds_up_no_call_for_long(
    store: HistoryStore, server: Server
) -> None:
    """Reads and writes time out, then the breaker refuses; thawed, it is asked again."""
    server.freeze()
    slow = [await seconds_to_fail(store, write=at % 2 == 0) for at in range(MAX_FAILURES)]
    quick = [await seconds_to_fail(store) for _ in range(20)]
    state = store.breaker_state
    server.thaw()
    recovery_s = await seconds_to_recover(store)

    assert max(slow) < CALL_S
    assert sorted(quick)[10] < REFUSAL_S
    assert state == "open"
    assert recovery_s < RECOVERY_S
    assert store.breaker_state == "closed"


async def test_a_dead_server_is_used_again_when_it_is_back(
    store: HistoryStore, server: Server
) -> None:
    """What it lost is gone; new items, and the scripts, reach it as before."""
    server.kill()
    slow = [await seconds_to_fail(store) for _ in range(MAX_FAILURES)]
    server.start()
    began_s = time.perf_counter()
    while store.breaker_state != "closed":
        with suppress(HistoryStoreError):
            await store.append("ann", ["b", "a"])
    recovery_s = time.perf_counter() - began_s
    other = open_store(server.url, max_items=10)

    assert max(slow) < CALL_S
    assert recovery_s < RECOVERY_S
    assert await store.get_many(["ann"]) == [["b", "a"]]
    assert await other.get_many(["ann"]) == [["b", "a"]]
    await other.close()


async def test_a_full_server_still_answers_reads(store: HistoryStore, server: Server) -> None:
    """Writes are refused whole and at once, which does not open the breaker."""
    with closing(server.client()) as client:
        client.config_set("maxmemory", "1")
        items = [NewItem("a", bytes(16)), NewItem("a", bytes(range(16)))]
        refused = await store.append_many([Append("ann", items)])
        with pytest.raises(HistoryStoreError, match="maxmemory"):
            await store.append("ann", ["new"])
        meanwhile = await store.get_many(["ann"])
        client.config_set("maxmemory", "0")
    again = await store.append_many([Append("ann", items)])

    assert [type(error) for error in refused] == [HistoryStoreError]
    assert meanwhile == [["a"]]
    assert again == [2]
    assert store.breaker_state == "closed"


@pytest.mark.usefixtures("store")
async def test_a_burst_waits_for_its_turn(server: Server) -> None:
    """More calls at once than there are connections: none is refused."""
    patient = open_store(server.url, max_items=10, patience=PATIENCE)
    histories = await asyncio.gather(*(patient.get_many(["ann"]) for _ in range(300)))
    await patient.close()

    assert histories == [[["a"]]] * 300


async def test_a_cluster_answers_for_the_nodes_it_has_left() -> None:
    """Users of the frozen or dead node are unreadable, the others served, every call bounded."""
    users = [f"u{n}" for n in range(30)]
    with running_cluster() as nodes:
        url = f"redis+cluster://127.0.0.1:{nodes[0].port}"
        store = open_store(url, max_items=10, patience=2)
        await store.append_many([Append(user_id, [NewItem("a")]) for user_id in users])
        nodes[1].freeze()
        frozen = [await timed(store, users) for _ in range(MAX_FAILURES)]
        nodes[1].thaw()
        thawed_s = await seconds_until_whole(store, users)
        nodes[1].kill()
        dead = [await timed(store, users) for _ in range(MAX_FAILURES)]
        await store.close()

    for seconds, histories in [*frozen, *dead]:
        assert seconds < 2 * CALL_S
        assert 3 < histories.count(None) < 20
        assert histories.count(["a"]) + histories.count(None) == len(users)
    assert frozen[-1][0] < 2 * CALL_S / 6  # less than one wait for an answer
    assert thawed_s < RECOVERY_S


async def timed(store: HistoryStore, user_ids: list[str]) -> tuple[float, list[list[str] | None]]:
    """How long these users' histories take, and what they are."""
    began_s = time.perf_counter()
    histories = await store.get_many(user_ids)
    return time.perf_counter() - began_s, histories


async def seconds_until_whole(store: HistoryStore, user_ids: list[str]) -> float:
    """How long it takes until every history can be read."""
    began_s = time.perf_counter()
    while None in await store.get_many(user_ids):
        assert time.perf_counter() - began_s < PATIENCE_S
    return time.perf_counter() - began_s
