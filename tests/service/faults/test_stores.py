"""The history store fails under load: no 500, nothing acknowledged is lost, and all is well soon.

Recommendations go on by popularity, events are refused with 503 until the store is back.
"""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.service.conftest import Start
from tests.service.faults.load import Load, calling, serve
from tests.service.history.servers import VALKEY, Server, call, running

RECOVERY_S = 3.0
SLOWEST_S = 2.0
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def server() -> Iterator[Server]:
    """A Valkey that keeps what it acknowledged."""
    with running(VALKEY, *DURABLE) as server:
        yield server


async def check(load: Load) -> None:
    """What holds after every failure, once callers have been well again."""
    recovery_s = await load.seconds_until_well()
    await load.rounds(3)
    lost = await load.lost()

    assert recovery_s < RECOVERY_S
    assert lost == {}
    assert load.tally.wrong == []
    assert load.tally.slowest_s < SLOWEST_S
    assert load.tally.seen() == {200, 503}
    assert load.tally.statuses["/recommend", 503] == 0
    assert load.tally.degraded > 0


async def test_a_redis_that_is_killed_and_restarted(
    start: Start, tmp_path: Path, server: Server
) -> None:
    """It comes back with what it acknowledged."""
    process = serve(start, tmp_path, server.url)
    async with calling(process.url) as load:
        server.kill()
        await load.rounds(20)
        await asyncio.to_thread(server.start)
        await check(load)


async def test_a_redis_that_freezes(start: Start, tmp_path: Path, server: Server) -> None:
    """It holds its connections and says nothing, then goes on."""
    process = serve(start, tmp_path, server.url)
    async with calling(process.url) as load:
        server.freeze()
        await load.rounds(20)
        server.thaw()
        await check(load)


async def test_a_redis_that_answers_with_errors(
    start: Start, tmp_path: Path, server: Server
) -> None:
    """Its users have lost their rights for a while."""
    process = serve(start, tmp_path, server.url)
    async with calling(process.url) as load:
        with closing(server.client()) as admin:
            call(admin, "ACL", "SETUSER", "admin", "on", "nopass", "~*", "+@all")
            call(admin, "AUTH", "admin", "any")
            call(admin, "ACL", "SETUSER", "default", "-get", "-mget", "-eval", "-evalsha")
            await load.rounds(20)
            call(admin, "ACL", "SETUSER", "default", "+@all")
        await check(load)


async def test_a_redis_that_is_full(start: Start, tmp_path: Path, server: Server) -> None:
    """It reads and does not write: histories are as they were, events are refused."""
    process = serve(start, tmp_path, server.url)
    async with calling(process.url) as load:
        with closing(server.client()) as admin:
            call(admin, "CONFIG", "SET", "maxmemory", "1")
            await load.rounds(20)
            refused = load.tally.statuses["/events", 503]
            call(admin, "CONFIG", "SET", "maxmemory", "0")
        recovery_s = await load.seconds_until_well()
        lost = await load.lost()

    assert refused > 0
    assert recovery_s < RECOVERY_S
    assert lost == {}
    assert load.tally.wrong == []
    assert load.tally.seen() == {200, 503}


async def test_a_disk_that_is_full(start: Start, tmp_path: Path) -> None:
    """SQLite's file may not grow for a while, as on a full disk."""
    process = serve(start, tmp_path, f"sqlite:///{tmp_path}/histories.db")
    async with calling(process.url) as load:
        _, hard = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (1, hard))
        await load.rounds(20)
        refused = load.tally.statuses["/events", 503]
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        recovery_s = await load.seconds_until_well()
        lost = await load.lost()

    assert refused > 0
    assert recovery_s < RECOVERY_S
    assert lost == {}
    assert load.tally.wrong == []
    assert load.tally.seen() == {200, 503}
