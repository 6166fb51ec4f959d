"""What the capacity benchmark found, as it is printed and recorded."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.capacity_plan import Demand, Need, UnitCosts, plan
from training.environment import Environment

DEMANDS = (
    Demand(users=10_000, items=12_000),
    Demand(users=100_000, items=12_000),
    Demand(users=1_000_000, items=100_000),
    Demand(users=10_000_000, items=1_000_000),
    Demand(users=100_000_000, items=10_000_000),
    Demand(users=100_000_000, items=100_000_000),
)


@dataclass(frozen=True)
class EngineCell:
    """The engine alone on one core, batch after batch.

    Args:
        history: items of every user's.
        beams: kept per level.
        items: of the catalog.
        rows: of a batch.
        ms: processor time of a request.
    """

    history: int
    beams: int
    items: int
    rows: int
    ms: float

    @property
    def per_second(self) -> float:
        """Requests that a core answers in a second."""
        return 1000 / self.ms


@dataclass(frozen=True)
class HttpCell:
    """The service over HTTP, with histories in a Valkey.

    Args:
        history: items of every user's.
        callers: at once, each with one request at a time.
        per_second: answers by the clock on the wall.
        p50_ms: half of them took no longer.
        p99_ms: nearly all.
        service_cpu_ms: processor time of the service, an answer.
        store_cpu_ms: processor time of the Valkey, an answer.
    """

    history: int
    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float
    service_cpu_ms: float
    store_cpu_ms: float


@dataclass(frozen=True)
class StoreCell:
    """Memory of a Valkey.

    Args:
        history: items of every user's.
        users: in it.
        user_bytes: for a user.
        event_bytes: more, for an event with an id.
        registry_bytes: for an item id.
    """

    history: int
    users: int
    user_bytes: float
    event_bytes: float
    registry_bytes: float


@dataclass(frozen=True)
class CatalogCosts:
    """Of the catalog benchmark's record, its largest catalog.

    Args:
        record: its file.
        items: of that catalog.
        index_bytes: an item.
        catalog_bytes: an item.
        growth: of a request, from the smallest to the largest catalog.
        add_ms: to add an item.
        start_s: to make the catalog and load the index.
    """

    record: str
    items: int
    index_bytes: float
    catalog_bytes: float
    growth: float
    add_ms: float
    start_s: float

    @classmethod
    def read(cls, file: Path) -> "CatalogCosts":
        """Of a record's .json."""
        growth = json.loads(file.read_text("utf-8"))["growth"]
        smallest, largest = growth[0], growth[-1]
        return cls(
            record=file.name,
            items=largest["items"],
            index_bytes=largest["bytes_per_item"],
            catalog_bytes=largest["catalog_bytes_per_item"],
            growth=round(largest["request_ms"] / smallest["request_ms"], 3),
            add_ms=largest["add_one_ms"],
            start_s=round(largest["catalog_s"] + largest["load_s"] + largest["verify_s"], 2),
        )


@dataclass(frozen=True)
class Result:
    """Everything.

    Args:
        engine: cells around a typical one, which is the first.
        http: the last one is what the plan goes by.
        store: by the length of histories, of which the plan goes by the middle one.
        process_bytes: of the service's process, as it served the HTTP cells.
        catalog: unit costs of another record.
        quick: whether less was measured.
        environment: of the measurement.
    """

    engine: Sequence[EngineCell]
    http: Sequence[HttpCell]
    store: Sequence[StoreCell]
    process_bytes: float
    catalog: CatalogCosts
    quick: bool
    environment: Environment

    @property
    def costs(self) -> UnitCosts:
        """What the plan goes by."""
        typical, store = self.http[-1], self.store[len(self.store) // 2]
        return UnitCosts(
            service_cpu_ms=typical.service_cpu_ms,
            store_cpu_ms=typical.store_cpu_ms,
            user_bytes=store.user_bytes,
            event_bytes=store.event_bytes,
            registry_bytes=store.registry_bytes,
            index_bytes=self.catalog.index_bytes,
            catalog_bytes=self.catalog.catalog_bytes,
            process_bytes=self.process_bytes,
            growth=self.catalog.growth,
        )

    @property
    def needs(self) -> list[Need]:
        """For DEMANDS."""
        return [plan(demand, self.costs) for demand in DEMANDS]

    def to_json(self) -> dict[str, Any]:
        """The headline first."""
        largest = self.needs[-1]
        return {
            "requests_per_s_per_core": round(1000 / self.costs.service_cpu_ms, 1),
            "bytes_per_user": self.costs.user_bytes,
            "replicas_100m_users": largest.replicas,
            "store_gb_100m_users": round(largest.store_gb, 1),
            "machine_gb_100m_items": round(largest.machine_gb, 1),
            "engine": [asdict(cell) | {"per_second": cell.per_second} for cell in self.engine],
            "http": [asdict(cell) for cell in self.http],
            "store": [asdict(cell) for cell in self.store],
            "costs": asdict(self.costs),
            "catalog": asdict(self.catalog),
            "needs": [asdict(need) for need in self.needs],
            "quick": self.quick,
            "environment": self.environment,
        }
