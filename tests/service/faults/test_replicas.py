"""Two services behind a balancer share one Valkey: they are as one, also when one of them dies."""

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Start
from tests.service.fakes import PATIENCE_S
from tests.service.faults.load import NO_ANSWER, NUM_CALLERS, Load, calling, serve
from tests.service.history.servers import VALKEY, Server, running
from tests.service.process import Process
from tests.service.versions import item_ids

USERS = [f"user-{number}" for number in range(20)]


class Balancer(httpx.AsyncBaseTransport):
    """Takes the replicas in turn, and the next one when one does not even accept a connection."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = [httpx.URL(url) for url in urls]
        self._turn = itertools.cycle(range(len(urls)))
        self._transport = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The response of one of them."""
        first = next(self._turn)
        for replica in self._urls[first:] + self._urls[:first]:
            request.url = request.url.copy_with(host=replica.host, port=replica.port)
            try:
                return await self._transport.handle_async_request(request)
            except httpx.ConnectError as error:
                refused = error
        raise refused

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._transport.aclose()


@pytest.fixture
def server() -> Iterator[Server]:
    """The one Valkey."""
    with running(VALKEY, "--appendonly", "yes") as server:
        yield server


@pytest.fixture
def replicas(start: Start, tmp_path: Path, server: Server) -> list[Process]:
    """Two services on the same versions and the same histories."""
    return [serve(start, tmp_path, server.url) for _ in range(2)]


async def test_what_one_was_told_the_other_knows(replicas: list[Process]) -> None:
    """Every answer of one is the other's, after events that came by turns."""
    first, second = (httpx.AsyncClient(base_url=replica.url) for replica in replicas)
    async with first, second:
        pairs = []
        for number, user in enumerate(USERS):
            for step, told in enumerate((first, second, first)):
                event = {"user_id": user, "item_id": f"i{(7 * number + step) % 40}"}
                await told.post("/events", json={"events": [event]})
            body = {"user_id": user, "explain": True}
            pairs.append([await one.post("/recommend", json=body) for one in (first, second)])

    assert {answer.json()["source"] for pair in pairs for answer in pair} == {"model"}
    assert all(item_ids(one) == item_ids(other) for one, other in pairs)
    assert all(one.json()["items"] == other.json()["items"] for one, other in pairs)
    assert [one.json()["explanation"]["tokens_in"] for one, _ in pairs] == [9] * len(USERS)


async def test_one_that_is_killed_loses_nothing_acknowledged(replicas: list[Process]) -> None:
    """Its callers go to the other one; only what it was just answering breaks."""
    balancer = Balancer([replica.url for replica in replicas])
    async with httpx.AsyncClient(
        base_url="http://balancer", transport=balancer, timeout=PATIENCE_S
    ) as client:
        async with calling(client) as load:
            replicas[0].process.send_signal(signal.SIGKILL)
            await load.rounds(10)
            recovery_s = await load.seconds_until_well()
        lost = await Load(client, load.callers, load.tally).lost()

    broken = sum(n for (_, status), n in load.tally.statuses.items() if status == NO_ANSWER)
    assert (lost, load.tally.wrong) == ({}, [])
    assert load.tally.seen() <= {200, NO_ANSWER}
    assert broken <= NUM_CALLERS
    assert recovery_s < 3
