"""What a run is held to, and whether it held."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtest.errors import LoadTestError
from loadtest.summary import Summary

MAX_CLIENT_CPU = 0.9
DEFAULT_OVERLOAD_MS = 2_000.0

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Latency(_Part):
    """Of answered recommendations, counted from when they were due, in ms."""

    p50: Positive | None = None
    p95: Positive | None = None
    p99: Positive | None = None


class Limits(_Part):
    """Of everything that was sent."""

    error_rate: float = Field(0.0, ge=0, le=1, description="Share of requests; 429 is an error.")
    backlog: int | None = Field(None, ge=0, description="Due and unanswered when the load ended.")
    degraded_rate: float | None = Field(None, ge=0, le=1, description="Share of answers.")
    memory_growth_mb: float | None = Field(None, ge=0, description="Of a service we started.")


class Overload(_Part):
    """In place of the others, when more is sent than can be answered."""

    p99_ms: Positive = DEFAULT_OVERLOAD_MS


class Slo(_Part):
    """A service level objective; what is None is not judged."""

    latency_ms: Latency = Latency()
    limits: Limits = Limits()
    overload: Overload = Overload()


@dataclass(frozen=True)
class Verdict:
    """One thing a run is held to: `found` must not exceed `limit`."""

    name: str
    found: float | None
    limit: float

    @property
    def held(self) -> bool:
        """Whether it was; nothing found is not good enough."""
        return self.found is not None and self.found <= self.limit


def read_slo(path: Path) -> Slo:
    """The objective in a TOML file, or LoadTestError."""
    try:
        return Slo.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise LoadTestError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise LoadTestError(f"{path}: {where}: {first['msg']}") from error


def judge(
    slo: Slo, summary: Summary, *, overload: bool, memory_growth_mb: float | None = None
) -> list[Verdict]:
    """Hold a run to an objective.

    Args:
        slo: the objective.
        summary: of the run.
        overload: 429 is no error, and latency is bounded by `slo.overload` alone.
        memory_growth_mb: of the service; None = not known.
    """
    verdicts = [Verdict("client's share of a core", summary.client_cpu_share, MAX_CLIENT_CPU)]
    latency = summary.recommendations
    if overload:
        return [
            *verdicts,
            Verdict("p99, ms", latency.p99_ms, slo.overload.p99_ms),
            Verdict("statuses of 500 and more", summary.num_5xx, 0),
            Verdict("errors other than 429", summary.num_errors - summary.num_429, 0),
        ]
    asked = {"p50": slo.latency_ms.p50, "p95": slo.latency_ms.p95, "p99": slo.latency_ms.p99}
    found = {"p50": latency.p50_ms, "p95": latency.p95_ms, "p99": latency.p99_ms}
    verdicts += [
        Verdict(f"{name}, ms", found[name], limit)
        for name, limit in asked.items()
        if limit is not None
    ]
    verdicts.append(Verdict("error rate", summary.error_rate, slo.limits.error_rate))
    if slo.limits.backlog is not None:
        verdicts.append(Verdict("backlog", summary.backlog, slo.limits.backlog))
    if slo.limits.degraded_rate is not None:
        most = slo.limits.degraded_rate
        verdicts.append(Verdict("degraded answers", summary.degraded_rate, most))
    if slo.limits.memory_growth_mb is not None:
        most = slo.limits.memory_growth_mb
        verdicts.append(Verdict("memory growth, MB", memory_growth_mb, most))
    return verdicts
