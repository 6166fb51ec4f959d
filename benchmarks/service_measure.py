"""How the service's benchmark measures: by requests, and by what the kernel counts meanwhile."""

import json
import re
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median, quantiles

from benchmarks.http_connection import LoadError
from benchmarks.http_load import Call, Load, Plan, result_of, start_client
from benchmarks.service_population import HISTORY_ITEMS, LIMIT, Population
from benchmarks.service_process import Server, on_core
from benchmarks.service_result import Batching, Cost, Health, Overhead, Versus
from model.bundle import latest
from model.engine import Engine, Query

SERVERS_CORE, CLIENTS_CORE = 0, 1
CONCURRENCY = 32
PROBE_INTERVAL_MS = 10.0
TIMEOUT_S = 60.0


class RankingError(Exception):
    """Two servers rank differently: whatever they cost, they cannot be compared."""


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Args:
        single_requests: one at a time, a store.
        cost_requests: of a round without a model.
        cost_rounds: of these.
        rounds: of throughput with a model.
        seconds: of each.
        versus_rounds: beside other servers.
        versus_seconds: of each.
        checked: rankings compared before.
        peer_rows: most requests that a peer puts into a batch, a peer each.
        beams: of both sides, beside the first peer; the others have the first of these.
    """

    single_requests: int
    cost_requests: int
    cost_rounds: int
    rounds: int
    seconds: float
    versus_rounds: int
    versus_seconds: float
    checked: int
    peer_rows: Sequence[int]
    beams: Sequence[int]


def service_command(bundle: Path, history_url: str) -> list[str]:
    """The service as it is started, on one thread, and without a cache: histories are all new."""
    options = {"bundle-dir": bundle, "history-url": history_url, "port": 0, "prompt-cache-mb": 0}
    pairs = [(f"--{name}", str(value)) for name, value in options.items()]
    return ["service", "serve", *(word for pair in pairs for word in pair)]


def send(plan: Plan) -> Load:
    """What comes back, all of it as expected, or LoadError."""
    with on_core(CLIENTS_CORE):
        client = start_client(plan)
    return checked(result_of(client))


def checked(load: Load) -> Load:
    """The load, unless responses were wrong: LoadError."""
    if load.wrong:
        raise LoadError(f"{load.wrong} wrong responses, such as: {'; '.join(load.remarks)}")
    return load


def overhead(server: Server, calls: Sequence[Call], count: int) -> Overhead:
    """What one request at a time costs beside the model."""
    send(Plan(server.url, calls, count=max(20, count // 10)))
    load = send(Plan(server.url, calls, count=count))
    cuts = quantiles(load.overheads_ms, n=100)
    return Overhead(
        requests=count,
        p50_ms=round(cuts[49], 3),
        p99_ms=round(cuts[98], 3),
        whole_p50_ms=round(median(load.latencies_ms), 3),
        model_p50_ms=round(median(load.model_ms), 3),
    )


def cost(server: Server, calls: Sequence[Call], effort: Effort) -> Cost:
    """Processor time of a server a request, CONCURRENCY at a time."""
    count = effort.cost_requests
    plan = Plan(server.url, calls, CONCURRENCY, count)
    send(replace(plan, count=count // 4))
    used, loads = [], []
    for _ in range(effort.cost_rounds):
        before = server.cpu_s()
        loads.append(send(plan))
        used.append((server.cpu_s() - before) / count * 1e6)
    return Cost(
        requests=count,
        us_per_request=round(min(used), 1),
        median_us_per_request=round(median(used), 1),
        per_second=round(max(load.per_second for load in loads), 1),
        client_us_per_request=round(min(load.cpu_s for load in loads) / count * 1e6, 1),
    )


@dataclass(frozen=True)
class Offline:
    """The engine alone, on the servers' core."""

    engine: Engine
    queries: Sequence[Query]

    @classmethod
    def of(cls, population: Population) -> "Offline":
        """What the service computes for these users' stored histories."""
        engine = Engine.load(latest(population.bundle), num_threads=1)
        index_of = engine.catalog.index_of
        rows = [map(index_of, items) for items in population.histories.values()]
        histories = [[index for index in row if index is not None] for row in rows]
        return cls(engine, [Query(history, limit=LIMIT) for history in histories])

    def run(self, rows: int, seconds: float) -> tuple[float, float]:
        """Batches of so many rows, again and again: queries a second, and processor time of each.

        The first batch does not count.
        """
        queries = cycle(self.queries)
        with on_core(SERVERS_CORE):
            self.engine.recommend(list(islice(queries, rows)))
            done, began_s, began_cpu_s = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - began_s < seconds:
                self.engine.recommend(list(islice(queries, rows)))
                done += rows
            elapsed_s = time.perf_counter() - began_s
            return done / elapsed_s, (time.process_time() - began_cpu_s) / done


def batching(server: Server, calls: Sequence[Call], offline: Offline, seconds: float) -> Batching:
    """One round under full load, and the engine alone after it."""
    plan = Plan(server.url, calls, CONCURRENCY, seconds=seconds)
    send(replace(plan, seconds=seconds / 4))
    before, before_cpu_s = counters(server), server.cpu_s()
    load = send(plan)
    cpu_s = server.cpu_s() - before_cpu_s
    found = {name: value - before[name] for name, value in counters(server).items()}
    rows = found["stamp_batch_rows_sum"] / found["stamp_batch_rows_count"]
    alone, alone_cpu_s = offline.run(round(rows), seconds / 2)
    full, _ = offline.run(CONCURRENCY, seconds / 2)
    return Batching(
        rows=round(rows, 2),
        per_second=round(load.per_second, 2),
        offline_per_second=round(alone, 2),
        offline_full_per_second=round(full, 2),
        cpu_s=cpu_s / len(load.latencies_ms),
        offline_cpu_s=alone_cpu_s,
        model_busy=round(found["stamp_batch_duration_seconds_sum"] / load.seconds, 3),
    )


def probes_under_load(server: Server, calls: Sequence[Call], seconds: float) -> Load:
    """Responses to health probes while the service is as busy as it can be."""
    live = [Call("/health/live", method="GET")]
    plan = Plan(server.url, calls, CONCURRENCY, seconds=seconds)
    probes = Plan(server.url, live, seconds=seconds, interval_ms=PROBE_INTERVAL_MS)
    with on_core(CLIENTS_CORE):
        clients = [start_client(plan), start_client(probes)]
    _, probed = [checked(result_of(client)) for client in clients]
    return probed


def health(probes: Load) -> Health:
    """How long they took."""
    latencies_ms = probes.latencies_ms
    cuts = quantiles(latencies_ms, n=100)
    return Health(
        probes=len(latencies_ms),
        p50_ms=round(cuts[49], 3),
        p99_ms=round(cuts[98], 3),
        most_ms=round(max(latencies_ms), 3),
    )


@dataclass(frozen=True)
class Baseline:
    """A server around transformers that takes at most so many requests into a batch."""

    server: Server
    rows: int
    beams: int

    @property
    def name(self) -> str:
        """How it works."""
        return "one at a time" if self.rows == 1 else f"up to {self.rows} in a padded batch"


def versus(ours: Server, peer: Baseline, population: Population, effort: Effort) -> Versus:
    """Our service and another server in turn, once their rankings are found to be the same.

    Raises:
        RankingError: they are not.
    """
    bodies = inline_bodies(population, peer.beams)
    plain = [body | {"retention_ratio": 1.0} for body in bodies]
    check_rankings(ours.url, peer.server.url, plain[: effort.checked])
    calls = [Call("/recommend", body, items=LIMIT) for body in plain]
    pruned = [Call("/recommend", body, items=LIMIT) for body in bodies]
    rounds = []
    for _ in range(effort.versus_rounds):
        sides = [(ours, calls), (peer.server, calls), (ours, pruned)]
        rounds.append([_throughput(*side, effort.versus_seconds) for side in sides])
    best = [max(each[side] for each in rounds) for side in range(3)]
    return Versus(
        peer=peer.name,
        beams=peer.beams,
        checked=effort.checked,
        per_second=round(best[0][0], 2),
        peer_per_second=round(best[1][0], 2),
        cpu_ratio=round(best[0][1] / best[1][1], 2),
        pruned_per_second=round(best[2][0], 2),
    )


def _throughput(server: Server, calls: Sequence[Call], seconds: float) -> tuple[float, float]:
    """Responses a second, and responses a second of processor time."""
    before = server.cpu_s()
    load = send(Plan(server.url, calls, CONCURRENCY, seconds=seconds))
    return load.per_second, len(load.latencies_ms) / (server.cpu_s() - before)


def inline_bodies(population: Population, beams: int) -> list[dict[str, object]]:
    """Requests that bring their history and leave seen items in: what `generate` can answer."""
    shared = {"limit": LIMIT, "beam_width": beams, "exclude_seen": False}
    newest = [items[-HISTORY_ITEMS:] for items in population.histories.values()]
    return [{"history": items, **shared} for items in newest]


def check_rankings(ours: str, peer: str, bodies: Sequence[dict[str, object]]) -> None:
    """Send these to both addresses, one after the other.

    Raises:
        RankingError: the items of two responses differ, or their order does.
    """
    for body in bodies:
        if ranking(ours, body) != ranking(peer, body):
            raise RankingError(f"the two servers rank differently: {json.dumps(body)[:200]}")


def ranking(url: str, body: dict[str, object]) -> list[str]:
    """The items of a response, best first."""
    request = urllib.request.Request(  # noqa: S310  # our own server
        f"{url}/recommend",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        return [item["item_id"] for item in json.load(response)["items"]]


def counters(server: Server) -> dict[str, float]:
    """The service's metrics without labels."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=TIMEOUT_S) as response:  # noqa: S310
        text = response.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)}
