"""How capacity is measured: the engine in batches, the service over HTTP, a Valkey's memory."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Any, TypeVar

import numpy as np
import redis

from benchmarks.capacity_result import EngineCell, HttpCell, StoreCell
from benchmarks.catalog_items import Parts, build_index, load_engine, random_catalog, random_codes
from benchmarks.http_load import Plan
from benchmarks.service_measure import SERVERS_CORE, send, service_command
from benchmarks.service_population import Population, t5_population
from benchmarks.service_process import Server
from model.config import T5Config
from model.engine import Engine, Query
from service.history import open_store
from service.history.store import Append, NewItem
from training.cost import interleaved_seconds

LIMIT = 10
REGISTRY = "stamp:items"
EVENTS = 10
"""Of a user on a day."""
TOKEN_BYTES = 16
CHUNK = 1_000

Value = TypeVar("Value")


@dataclass(frozen=True)
class Effort:
    """How much to measure; of each first entry is the typical one.

    Args:
        histories: lengths in items.
        beams: widths.
        sizes: of catalogs.
        rows: of batches.
        budget_s: for the engine.
        callers: over HTTP, ascending.
        http_histories: lengths of histories over HTTP; the last is the typical one.
        http_s: for each cell over HTTP.
        stored: lengths of histories in the store, ascending.
        users: in the store.
    """

    histories: Sequence[int]
    beams: Sequence[int]
    sizes: Sequence[int]
    rows: Sequence[int]
    budget_s: float
    callers: Sequence[int]
    http_histories: Sequence[int]
    http_s: float
    stored: Sequence[int]
    users: int


def engine_cells(config: T5Config, folder: Path, effort: Effort) -> list[EngineCell]:
    """Around the typical point, one thing changed at a time; by interleaved rounds."""
    parts = Parts.random(config)
    engines = {size: _engine(parts, size, folder) for size in effort.sizes}
    history, beams, size = effort.histories[0], effort.beams[0], effort.sizes[0]
    points = [(other, beams, size) for other in effort.histories]
    points += [(history, other, size) for other in effort.beams[1:]]
    points += [(history, beams, other) for other in effort.sizes[1:]]
    works: dict[tuple[int, int, int, int], Callable[[], object]] = {}
    for place, (items, width, catalog) in enumerate(points):
        random = np.random.default_rng(place)
        for rows in effort.rows:
            drawn = random.integers(0, min(effort.sizes), (rows, items)).tolist()
            queries = [Query(row, limit=LIMIT, beam_width=width) for row in drawn]
            works[items, width, catalog, rows] = partial(engines[catalog].recommend, queries)
    seconds = interleaved_seconds(works, effort.budget_s)
    return [EngineCell(*key, ms=round(1000 * spent / key[-1], 3)) for key, spent in seconds.items()]


def _engine(parts: Parts, size: int, folder: Path) -> Engine:
    catalog, place = random_catalog(size), folder / str(size)
    place.mkdir()
    config = parts.model.config
    assert isinstance(config, T5Config)
    build_index(random_codes(size, config), catalog.popularity, config, place)
    return load_engine(parts, catalog, place)


def http_cells(
    config: T5Config, folder: Path, valkey: str, effort: Effort
) -> tuple[list[HttpCell], float]:
    """The service on as many users as a cell may ask for, and what its process holds, in bytes."""
    whole = t5_population(folder, 1_000, config, effort.sizes[0])
    cells = []
    # All effort for every answer, however many wait: less would look like more of a core.
    command = [*service_command(whole.bundle, valkey), "--effort-wait-ms", "0"]
    store = _cpu_of(valkey)
    with Server(command, folder / "service.log") as server:
        server.until_ready().stay_on_core(SERVERS_CORE)
        for history in effort.http_histories:
            cut = {user: items[-history:] for user, items in whole.histories.items()}
            population = Population(whole.bundle, cut)
            population.fill(valkey)
            cells += [
                _http_cell(server, store, population, history, callers, effort.http_s)
                for callers in effort.callers
            ]
        return cells, server.rss_mb() * 1e6


def _http_cell(
    server: Server,
    store: Callable[[], float],
    population: Population,
    history: int,
    callers: int,
    seconds: float,
) -> HttpCell:
    plan = Plan(server.url, population.stored_calls(), callers, seconds=seconds)
    send(Plan(server.url, plan.calls, callers, seconds=seconds / 4))
    service_s, store_s = server.cpu_s(), store()
    load = send(plan)
    service_s, store_s = server.cpu_s() - service_s, store() - store_s
    cuts, answers = quantiles(load.latencies_ms, n=100), len(load.latencies_ms)
    return HttpCell(
        history=history,
        callers=callers,
        per_second=round(load.per_second, 1),
        p50_ms=round(cuts[49], 2),
        p99_ms=round(cuts[98], 2),
        service_cpu_ms=round(1000 * service_s / answers, 3),
        store_cpu_ms=round(1000 * store_s / answers, 4),
    )


def _cpu_of(valkey: str) -> Callable[[], float]:
    """Asks a Valkey for the processor time it has used, in seconds."""

    def cpu_s() -> float:
        with redis.Redis.from_url(valkey) as client:
            used: dict[str, Any] = client.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    return cpu_s


def store_cells(valkey: str, effort: Effort) -> list[StoreCell]:
    """By the service's own store, each length in an empty Valkey."""
    return [
        asyncio.run(_store_cell(valkey, history, effort.users, effort.sizes[0]))
        for history in effort.stored
    ]


async def _store_cell(valkey: str, history: int, users: int, items: int) -> StoreCell:
    names = [f"user-{number:09}" for number in range(users)]
    random = np.random.default_rng(history)
    drawn = random.integers(0, items, (users, history)).tolist()
    store = open_store(valkey, max_items=history, patience=50)
    with redis.Redis.from_url(valkey) as client:
        client.execute_command("FLUSHALL", "SYNC")
        try:
            await store.append_many([Append("warm-up", _events(random))])  # connections, scripts
            empty = _used_bytes(client)
            for some in batched(zip(names, drawn, strict=True)):
                rows = [(name, [f"i{item}" for item in row]) for name, row in some]
                await store.import_many(rows, replace=True)
            registry = int(client.memory_usage(REGISTRY, samples=0) or 0)
            num_items, filled = int(client.hlen(REGISTRY)), _used_bytes(client)
            for told_now in batched(names):
                await store.append_many([Append(name, _events(random)) for name in told_now])
            told = _used_bytes(client)
        finally:
            await store.close()
    return StoreCell(
        history=history,
        users=users,
        user_bytes=round((filled - empty - registry) / users, 1),
        event_bytes=round((told - filled) / users / EVENTS, 1),
        registry_bytes=round(registry / num_items, 1),
    )


def _events(random: np.random.Generator) -> list[NewItem]:
    return [NewItem("i0", random.bytes(TOKEN_BYTES)) for _ in range(EVENTS)]


def batched(values: Iterable[Value]) -> Iterator[list[Value]]:
    """CHUNK at a time."""
    rest = iter(values)
    while some := list(islice(rest, CHUNK)):
        yield some


def _used_bytes(client: redis.Redis) -> int:
    memory: dict[str, Any] = client.info("memory")
    return int(memory["used_memory"])
