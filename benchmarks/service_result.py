"""What the service's benchmark found, as it is printed and recorded."""

from dataclasses import asdict, dataclass

from training.environment import Environment

MOST = {
    "overhead_ms_p50.sqlite": 1.0,
    "overhead_ms_p50.redis": 1.5,
    "cpu_us_per_request": 400.0,
    "health_live_ms_p99": 20.0,
}
LEAST = {"batch_efficiency": 0.80, "vs_baseline_server": 8.0}


@dataclass(frozen=True)
class Overhead:
    """One request at a time: what its time consists of, in milliseconds.

    Args:
        requests: that were timed.
        p50_ms: end to end without the model's time of the same request, median.
        p99_ms: the same, 99th percentile.
        whole_p50_ms: end to end.
        model_p50_ms: the model's time alone.
    """

    requests: int
    p50_ms: float
    p99_ms: float
    whole_p50_ms: float
    model_p50_ms: float


@dataclass(frozen=True)
class Cost:
    """What a server without a model uses of its core.

    Args:
        requests: of each round.
        us_per_request: processor time, in user and system mode; least over rounds.
        median_us_per_request: median over rounds.
        per_second: most over rounds.
        client_us_per_request: the client's own, on the other core; least.
    """

    requests: int
    us_per_request: float
    median_us_per_request: float
    per_second: float
    client_us_per_request: float


@dataclass(frozen=True)
class Batching:
    """One round: requests over HTTP, and then the same queries by the engine alone, one core each.

    Args:
        rows: of the service's batches, on average; and exactly of the engine's.
        per_second: over HTTP.
        offline_per_second: of the engine alone.
        offline_full_per_second: the same with full batches, as many rows as were in flight.
        cpu_s: processor time of the service's process for a request, model included.
        offline_cpu_s: of the engine alone.
        model_busy: share of the time that the service's model thread was computing.
    """

    rows: float
    per_second: float
    offline_per_second: float
    offline_full_per_second: float
    cpu_s: float
    offline_cpu_s: float
    model_busy: float

    @property
    def efficiency(self) -> float:
        """Throughput over HTTP, as a share of the engine's."""
        return self.per_second / self.offline_per_second


@dataclass(frozen=True)
class Health:
    """GET /health/live while the service is under full load."""

    probes: int
    p50_ms: float
    p99_ms: float
    most_ms: float


@dataclass(frozen=True)
class Versus:
    """Our service beside a server around transformers' `generate`, on one model.

    Args:
        peer: what the other one does.
        beams: of both.
        checked: requests whose rankings were compared before, and were the same.
        per_second: of ours.
        peer_per_second: of the other.
        cpu_ratio: the other's processor time for a request, divided by ours.
        pruned_per_second: of ours as it serves by default, SAP on; another ranking.
    """

    peer: str
    beams: int
    checked: int
    per_second: float
    peer_per_second: float
    cpu_ratio: float
    pruned_per_second: float

    @property
    def ratio(self) -> float:
        """How many times the other's throughput ours is."""
        return self.per_second / self.peer_per_second


@dataclass(frozen=True)
class Result:
    """Everything; `skipped` says why something is missing.

    Args:
        overheads: by history store.
        costs: of the service by history store, and of `echo`, FastAPI alone.
        batching: round by round.
        health: under the same load, in a round of its own.
        versus: the first one is the headline.
    """

    overheads: dict[str, Overhead]
    costs: dict[str, Cost]
    batching: list[Batching]
    health: Health
    versus: list[Versus]
    concurrency: int
    own_cores: bool
    skipped: dict[str, str]
    quick: bool
    environment: Environment

    @property
    def batch_efficiency(self) -> float:
        """Median over rounds."""
        return sorted(each.efficiency for each in self.batching)[len(self.batching) // 2]

    def headlines(self) -> dict[str, float]:
        """What has a target, by its name; what was not measured is left out."""
        found = {f"overhead_ms_p50.{store}": each.p50_ms for store, each in self.overheads.items()}
        found["cpu_us_per_request"] = self.costs["sqlite"].us_per_request
        found["health_live_ms_p99"] = self.health.p99_ms
        found["batch_efficiency"] = self.batch_efficiency
        if self.versus:
            found["vs_baseline_server"] = self.versus[0].ratio
        return {name: round(value, 3) for name, value in found.items()}

    def reached(self) -> dict[str, bool]:
        """Every target of what was measured."""
        return {
            name: value <= MOST[name] if name in MOST else value >= LEAST[name]
            for name, value in self.headlines().items()
        }

    def to_json(self) -> dict[str, object]:
        """One object."""
        headlines = self.headlines()
        stores = ("sqlite", "redis")
        return {
            "benchmark": "service",
            "overhead_ms_p50": {name: headlines.get(f"overhead_ms_p50.{name}") for name in stores},
            "cpu_us_per_request": headlines["cpu_us_per_request"],
            "batch_efficiency": headlines["batch_efficiency"],
            "vs_baseline_server": headlines.get("vs_baseline_server"),
            "health_live_ms_p99": headlines["health_live_ms_p99"],
            "rankings_equal": True if self.versus else None,
            "targets": {"most": MOST, "least": LEAST},
            "reached": self.reached(),
            **asdict(self),
        }
