"""How many cores and how much memory a number of users needs: arithmetic on measured unit costs."""

from dataclasses import dataclass
from math import ceil

GB = 1e9
SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class UnitCosts:
    """What one of everything costs, as measured.

    Args:
        service_cpu_ms: processor time of the service for a request, in batches, HTTP included.
        store_cpu_ms: of the history store for a request.
        user_bytes: of the store for a user's history.
        event_bytes: of the store for an event with an id, for a day.
        registry_bytes: of the store for an item id.
        index_bytes: of an item in the index, which the processes of a machine share.
        catalog_bytes: of an item in a process's own memory.
        process_bytes: of a process without a catalog: program, weights, prompt cache.
        growth: a request over the planned catalog, as a multiple of one over the measured one.
    """

    service_cpu_ms: float
    store_cpu_ms: float
    user_bytes: float
    event_bytes: float
    registry_bytes: float
    index_bytes: float
    catalog_bytes: float
    process_bytes: float
    growth: float = 1.0


@dataclass(frozen=True)
class Demand:
    """Who comes, and how often.

    Args:
        users: who have a history.
        items: of the catalog.
        active: share of the users who come on a day.
        requests: recommendations that each of those asks for on that day.
        events: that each of those sends on that day.
        peak: the busiest second's rate, as a multiple of the day's mean.
    """

    users: int
    items: int
    active: float = 0.2
    requests: float = 10.0
    events: float = 10.0
    peak: float = 3.0


@dataclass(frozen=True)
class Reserve:
    """What is not used.

    Args:
        utilisation: what a core answers at the peak, of what it could; waiting grows above.
        spare_replicas: that may be gone, at the peak.
        store_copies: of the store's data: a primary, and replicas.
        store_fill: of a store's memory.
        cores_a_machine: replicas that share an index.
    """

    utilisation: float = 0.6
    spare_replicas: int = 1
    store_copies: int = 2
    store_fill: float = 0.7
    cores_a_machine: int = 16


@dataclass(frozen=True)
class Need:
    """What a demand takes.

    Args:
        demand: that was asked.
        peak_per_s: recommendations in the busiest second.
        replicas: processes with a core each.
        machines: that hold them.
        store_cores: that the store's primaries keep busy, reserve included.
        store_gb: memory of the store's servers, all copies, reserve included.
        registry_gb: of it, item ids: one key, on one server, in each copy.
        index_gb: of a machine, shared by its processes.
        process_gb: of one process, the index aside.
        machine_gb: of a machine, all its processes.
    """

    demand: Demand
    peak_per_s: float
    replicas: int
    machines: int
    store_cores: float
    store_gb: float
    registry_gb: float
    index_gb: float
    process_gb: float
    machine_gb: float


def plan(demand: Demand, costs: UnitCosts, reserve: Reserve = Reserve()) -> Need:
    """What it takes: replicas = peak rate / (rate of a core x utilisation) + spare ones."""
    visitors = demand.users * demand.active
    peak_per_s = visitors * demand.requests * demand.peak / SECONDS_A_DAY
    busy_cores = peak_per_s * costs.service_cpu_ms * costs.growth / 1000
    replicas = max(1, ceil(busy_cores / reserve.utilisation)) + reserve.spare_replicas
    machines = ceil(replicas / reserve.cores_a_machine)
    registry = demand.items * costs.registry_bytes
    stored = demand.users * costs.user_bytes + registry
    stored += visitors * demand.events * costs.event_bytes
    index_gb = demand.items * costs.index_bytes / GB
    process_gb = (demand.items * costs.catalog_bytes + costs.process_bytes) / GB
    return Need(
        demand=demand,
        peak_per_s=peak_per_s,
        replicas=replicas,
        machines=machines,
        store_cores=peak_per_s * costs.store_cpu_ms / 1000 / reserve.utilisation,
        store_gb=stored * reserve.store_copies / reserve.store_fill / GB,
        registry_gb=registry / GB,
        index_gb=index_gb,
        process_gb=process_gb,
        machine_gb=index_gb + process_gb * min(replicas, reserve.cores_a_machine),
    )
