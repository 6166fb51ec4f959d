"""Callers that never stop: each tells its events, asks for recommendations, and checks the answers.

Every caller is a user of its own with items of its own, so that an answer made for somebody else is
seen: a history that was read holds the caller's items and no others.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.service.conftest import Start, write_bundle
from tests.service.fakes import PATIENCE_S
from tests.service.process import Process

NUM_CALLERS = 8
ITEMS_EACH = 5
NO_ANSWER = 0
PAUSE_S = 0.005
REFUSED = {429, 503}


@dataclass
class Tally:
    """What all callers saw.

    Args:
        statuses: how often a path was answered with a status; NO_ANSWER when the connection broke.
        degraded: recommendations that said that the history failed.
        wrong: answers that should not be, in words.
        slowest_s: the longest that a caller waited.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    degraded: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def seen(self) -> set[int]:
        """Every status that was seen."""
        return {status for _, status in self.statuses}

    def line(self) -> str:
        """The counts, for people."""
        seen = sorted(self.statuses.items())
        counts = ", ".join(f"{path} {status}: {n}" for (path, status), n in seen)
        return f"{counts}; degraded {self.degraded}, slowest {self.slowest_s * 1000:.0f} ms"


@dataclass
class Caller:
    """One user, who acknowledges nothing that was not acknowledged to them.

    Args:
        number: of the caller; gives it its items.
        client: of the service.
        tally: where it counts.
        rude: every how many rounds it asks for a hundred and leaves at once; 0 = never.
    """

    number: int
    client: httpx.AsyncClient
    tally: Tally
    rude: int = 0
    acknowledged: list[str] = field(default_factory=list)
    last_good_began_s: float = 0.0
    rounds: int = 0

    @property
    def user_id(self) -> str:
        """Who it is."""
        return f"user-{self.number}"

    @property
    def items(self) -> list[str]:
        """What it, and nobody else, ever likes."""
        first = self.number * ITEMS_EACH
        return [f"i{item}" for item in range(first, first + ITEMS_EACH)]

    async def call_on(self) -> None:
        """One round after the other, forever."""
        while True:
            began_s = time.monotonic()
            told, answered = await self.tell(), await self.ask()
            if told and answered:
                self.last_good_began_s = began_s
            self.rounds += 1
            await asyncio.sleep(PAUSE_S)

    async def tell(self) -> bool:
        """Send the next event, the same one until it is acknowledged; whether it is now."""
        number = len(self.acknowledged)
        item = self.items[number % ITEMS_EACH]
        event = {"user_id": self.user_id, "item_id": item, "event_id": f"event-{number}"}
        response = await self.post("/events", {"events": [event]})
        if response is None or response.status_code != 200:
            return False
        self.acknowledged.append(item)
        return True

    async def ask(self) -> bool:
        """Ask for recommendations and look at them; whether they are as if nothing had failed."""
        body = {"user_id": self.user_id, "limit": 5, "explain": True}
        if self.rude and self.rounds % self.rude == 0:
            with suppress(httpx.TimeoutException):
                many = {"requests": [body] * 100}
                await self.client.post("/recommend/batch", json=many, timeout=0.001)
            return True
        response = await self.post("/recommend", body)
        if response is None or response.status_code != 200:
            return False
        answer = response.json()
        self.check(answer)
        if answer["degraded"]:
            self.tally.degraded += 1
        return not answer["degraded"]

    def check(self, answer: dict[str, object]) -> None:
        """Note what is wrong with an answer."""
        recommended = [item["item_id"] for item in answer["items"]]  # type: ignore[attr-defined]
        explanation = answer.get("explanation") or {"kept_history": []}
        kept = {item["item_id"] for item in explanation["kept_history"]}  # type: ignore[index]
        if not kept <= set(self.items):
            self.tally.wrong.append(f"{self.user_id} was answered for {sorted(kept)}")
        if len(recommended) != 5 or len(set(recommended)) != 5:
            self.tally.wrong.append(f"{self.user_id} got {recommended}")
        if kept and not set(self.acknowledged[-ITEMS_EACH:]).isdisjoint(recommended):
            self.tally.wrong.append(f"{self.user_id} got again what it had: {recommended}")

    async def post(self, path: str, body: dict[str, object]) -> httpx.Response | None:
        """The response, counted; None if there was none."""
        began_s = time.monotonic()
        try:
            response = await self.client.post(path, json=body)
        except httpx.TransportError:
            self.tally.statuses[path, NO_ANSWER] += 1
            return None
        self.tally.slowest_s = max(self.tally.slowest_s, time.monotonic() - began_s)
        self.tally.statuses[path, response.status_code] += 1
        return response


@dataclass
class Load:
    """All callers of one service."""

    client: httpx.AsyncClient
    callers: list[Caller]
    tally: Tally

    async def rounds(self, num_rounds: int) -> None:
        """Wait until every caller has made so many more rounds."""
        goals = {caller.number: caller.rounds + num_rounds for caller in self.callers}
        await _until(lambda: all(one.rounds >= goals[one.number] for one in self.callers))

    async def seconds_until_well(self) -> float:
        """How long until every caller began and ended a round in which nothing failed."""
        mark_s = time.monotonic()
        await _until(lambda: all(caller.last_good_began_s > mark_s for caller in self.callers))
        return max(caller.last_good_began_s for caller in self.callers) - mark_s

    async def lost(self) -> dict[str, tuple[int, int]]:
        """Of each user whose history is not what was acknowledged, how long both are."""
        differing = {}
        for caller in self.callers:
            acknowledged = list(caller.acknowledged)  # callers go on meanwhile
            response = await self.client.get(f"/users/{caller.user_id}/history?limit=10000")
            stored = [item["item_id"] for item in response.json()["items"]]
            most = len(caller.acknowledged) + 1  # one sent, and perhaps not acknowledged in time
            if stored[: len(acknowledged)] != acknowledged or len(stored) > most:
                differing[caller.user_id] = (len(stored), len(acknowledged))
        return differing


def serve(start: Start, folder: Path, history_url: str, **variables: str) -> Process:
    """A service on two untrained versions of forty items."""
    for version in {"v1", "v2"} - {path.name for path in folder.glob("bundles/*")}:
        write_bundle(folder / "bundles", version)
    process = start(
        *("-m", "service", "serve", "--port", "0"),
        STAMP_BUNDLE_DIR=str(folder / "bundles"),
        STAMP_HISTORY_URL=history_url,
        STAMP_MAX_HISTORY_ITEMS="100000",
        **variables,
    )
    process.until_ready()
    return process


@asynccontextmanager
async def calling(
    target: str | httpx.AsyncClient, *, rude: int = 0, num_callers: int = NUM_CALLERS
) -> AsyncIterator[Load]:
    """Callers for as long as the block runs; their counts are printed then (pytest -s).

    Args:
        target: a service's address, or a client of it.
        rude: every how many rounds a caller asks for a hundred and leaves at once; 0 = never.
        num_callers: at once.
    """
    tally = Tally()
    async with AsyncExitStack() as stack:
        client = target
        if isinstance(client, str):
            client = httpx.AsyncClient(base_url=client, timeout=PATIENCE_S)
            await stack.enter_async_context(client)
        callers = [Caller(number, client, tally, rude) for number in range(num_callers)]
        tasks = [asyncio.create_task(caller.call_on()) for caller in callers]
        load = Load(client, callers, tally)
        try:
            await load.rounds(3)
            yield load
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            print(tally.line())  # noqa: T201  # pytest -s shows it


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)
