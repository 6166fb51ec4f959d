"""Ray Serve on two nodes and one Valkey: scaled, switched and killed while requests come in."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.ray_cluster import HEAD, WORKER, Cluster
from benchmarks.ray_cluster import running as running_cluster
from tests.service.conftest import write_bundle
from tests.service.fakes import PATIENCE_S
from tests.service.faults.load import NO_ANSWER, NUM_CALLERS, Load, calling
from tests.service.history.servers import VALKEY, running
from tests.service.test_ray_config import CONFIG
from tests.service.versions import BODY

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")

BROKEN = {500, NO_ANSWER}  # HAProxy answers 500 for a replica that is gone
STORE_SLOW = 503  # to an event, when a process that starts takes the processor for too long
ENOUGH_SCRAPES = 40


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes."""
    with running_cluster(HEAD, WORKER) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def config(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """deploy/ray/serve.yaml, on this cluster, with two untrained versions and a Valkey."""
    folder = tmp_path_factory.mktemp("ray")
    for version in ("v1", "v2"):
        write_bundle(folder / "bundles", version)
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["proxy_location"] = "HeadOnly"  # both nodes are one machine, with one port
    config["http_options"]["port"] = cluster.port
    with running(VALKEY, "--appendonly", "yes") as valkey:
        args = {"bundle_dir": str(folder / "bundles"), "history_url": valkey.url}
        config["applications"][0]["args"] = args | {"max_history_items": 100_000}
        yield with_changes(config, max_replicas_per_node=1)


def with_changes(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The configuration with some options of the deployment changed."""
    application = config["applications"][0]
    deployment = application["deployments"][0] | changes
    return config | {"applications": [application | {"deployments": [deployment]}]}


def fixed(config: dict[str, Any], num_replicas: int, active: str = "v1") -> dict[str, Any]:
    """The configuration with a version and so many replicas, whatever the load."""
    scaling = {"min_replicas": num_replicas, "max_replicas": num_replicas}
    return with_changes(config, autoscaling_config=scaling, user_config={"active": active})


async def until(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    """Wait for what the cluster brings about."""
    async with asyncio.timeout(3 * PATIENCE_S):
        while await ask() != expected:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.2)


async def processes(cluster: Cluster) -> set[int]:
    """The replicas that run, as Ray says."""
    return {replica["pid"] for replica in await asyncio.to_thread(cluster.replicas)}


async def num_answering(client: httpx.AsyncClient) -> int:
    """How many replicas answer through the ingress, told apart by when their processes began."""
    scrapes = await asyncio.gather(*(client.get("/metrics") for _ in range(ENOUGH_SCRAPES)))
    began = re.compile(r"^process_start_time_seconds (.+)$", flags=re.MULTILINE)
    return len({found for scrape in scrapes for found in began.findall(scrape.text)})


async def versions(client: httpx.AsyncClient) -> set[str]:
    """The versions that answer through the ingress."""
    answers = await asyncio.gather(
        *(client.post("/recommend", json=BODY) for _ in range(ENOUGH_SCRAPES))
    )
    return {answer.json()["model"]["version"] for answer in answers}


@asynccontextmanager
async def deployed(cluster: Cluster, config: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of what was deployed, once all replicas answer and know nobody."""
    await asyncio.to_thread(cluster.deploy, config)
    wanted = config["applications"][0]["deployments"][0]["autoscaling_config"]["min_replicas"]
    await asyncio.to_thread(cluster.until_replicas, wanted)
    async with httpx.AsyncClient(base_url=cluster.url, timeout=PATIENCE_S) as client:
        await until(lambda: num_answering(client), wanted)
        for number in range(NUM_CALLERS):
            await client.delete(f"/users/user-{number}/history")
        yield client


async def test_a_second_replica_comes_when_requests_wait(
    cluster: Cluster, config: dict[str, Any]
) -> None:
    """More ongoing requests than aimed at start one on the other node; nothing is lost."""
    scaling = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 1}
    scaling |= {"upscale_delay_s": 0, "downscale_delay_s": 600}
    scaling |= {"metrics_interval_s": 1, "look_back_period_s": 2}
    eager = with_changes(config, autoscaling_config=scaling, user_config={"active": "v1"})
    async with deployed(cluster, eager) as client:
        async with calling(client) as load:
            await until(lambda: num_answering(client), 2)
            await load.rounds(5)
        lost = await Load(client, load.callers, load.tally).lost()

    assert (lost, load.tally.wrong) == ({}, [])
    assert load.tally.seen() <= {200, STORE_SLOW}


@pytest.mark.parametrize("number", [2, 1])
async def test_a_version_is_switched_by_user_config(
    cluster: Cluster, config: dict[str, Any], number: int
) -> None:
    """Replicas load it beside the old one; they are not restarted, and nobody is refused."""
    async with deployed(cluster, fixed(config, number, "v1")) as client:
        await until(lambda: versions(client), {"v1"})
        before = await processes(cluster)
        async with calling(client) as load:
            await asyncio.to_thread(cluster.deploy, fixed(config, number, "v2"))
            await until(lambda: versions(client), {"v2"})
            await load.rounds(5)
        after = await processes(cluster)

    assert len(before) == number
    assert after == before
    assert load.tally.wrong == []
    assert load.tally.seen() == {200}


async def test_a_version_that_does_not_exist_changes_nothing(
    cluster: Cluster, config: dict[str, Any]
) -> None:
    """What served before goes on serving, in the same processes."""
    async with deployed(cluster, fixed(config, 2, "v1")) as client:
        await until(lambda: versions(client), {"v1"})
        before = await processes(cluster)
        async with calling(client) as load:
            await asyncio.to_thread(cluster.deploy, fixed(config, 2, "v9"))
            await load.rounds(20)
        after = await processes(cluster), await versions(client)

    assert after == (before, {"v1"})
    assert load.tally.seen() == {200}


async def test_a_node_is_killed(cluster: Cluster, config: dict[str, Any]) -> None:
    """Only what it was just answering breaks; what it was told is known; a new node takes over."""
    async with deployed(cluster, fixed(config, 2)) as client:
        before = await processes(cluster)
        async with calling(client) as load:
            cluster.kill_node(WORKER)
            await load.rounds(30)
            recovery_s = await load.seconds_until_well()
        lost = await Load(client, load.callers, load.tally).lost()
        cluster.start_node(WORKER)
        await until(lambda: num_answering(client), 2)
        after = await processes(cluster)

    broken = sum(n for (_, status), n in load.tally.statuses.items() if status in BROKEN)
    assert len(before & after) == 1
    assert (lost, load.tally.wrong) == ({}, [])
    assert load.tally.seen() <= {200, *BROKEN}
    assert broken <= NUM_CALLERS
    assert recovery_s < 3
