"""What the rows of a run amount to. Requests due during the warm-up are left out."""

from dataclasses import dataclass

import polars as pl

from loadtest.schedules import Schedule
from loadtest.traffic import NAMES, RECOMMENDS

LATENCY_MS = (pl.col("done_s") - pl.col("due_s")) * 1000
ANSWERED = (pl.col("status") == 200) & pl.col("fault").is_null()


@dataclass(frozen=True)
class Latency:
    """Of answered requests; None where there were none.

    Args:
        requests: of this kind, answered or not.
        answered: those with status 200 and nothing wrong.
        rejected: those with status 429.
        p50_ms: from due to done; the others alike.
    """

    requests: int
    answered: int
    rejected: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True)
class Summary:
    """One run.

    Args:
        duration_s: of the measured part.
        asked_rate: requests due per second.
        answered_rate: of those, well answered ones per second.
        arrivals_per_s: well answered ones that came of themselves, not after an event.
        recommendations: all kinds together; what the objective is about.
        by_name: each kind of request.
        num_errors: all but well answered ones, 429 included.
        num_5xx: statuses of 500 and more.
        error_rate: errors / requests; 1 if there were no requests.
        faults: what went wrong, how often.
        degraded: what answers had to do without, as they say, how often.
        degraded_rate: share of good answers that had to do without something.
        backlog: due and not answered when the load ended.
        late_p99_ms: how long after they were due requests were sent; waiting for a user counts.
        client_cpu_share: processor time of the client per second.
    """

    duration_s: float
    asked_rate: float
    answered_rate: float
    arrivals_per_s: float
    recommendations: Latency
    by_name: dict[str, Latency]
    num_requests: int
    num_errors: int
    num_429: int
    num_5xx: int
    error_rate: float
    faults: dict[str, int]
    degraded: dict[str, int]
    degraded_rate: float
    backlog: int
    late_p99_ms: float | None
    client_cpu_share: float


def summarize(rows: pl.DataFrame, schedule: Schedule, client_cpu_share: float) -> Summary:
    """Count and measure what was due in the measured part.

    Args:
        rows: see loadtest/records.py.
        schedule: of the run.
        client_cpu_share: see Summary.
    """
    end_s = schedule.total_s
    counted = rows.filter(pl.col("due_s").is_between(schedule.warmup_s, end_s, closed="left"))
    answered = counted.filter(ANSWERED)
    num_429 = counted.filter(pl.col("status") == 429).height
    faults = counted.drop_nulls("fault")["fault"].value_counts(sort=True)
    without = answered["degraded"].explode().drop_nulls().value_counts(sort=True)
    late = counted.filter(pl.col("due_s") < end_s)
    num_errors = counted.height - answered.height
    return Summary(
        duration_s=schedule.duration_s,
        asked_rate=counted.height / schedule.duration_s,
        answered_rate=answered.height / schedule.duration_s,
        arrivals_per_s=answered.filter(pl.col("name") != NAMES["after"]).height
        / schedule.duration_s,
        recommendations=_latency(counted.filter(pl.col("name").is_in(RECOMMENDS))),
        by_name={
            str(name): _latency(part)
            for (name,), part in sorted(counted.group_by("name"), key=lambda pair: str(pair[0]))
        },
        num_requests=counted.height,
        num_errors=num_errors,
        num_429=num_429,
        num_5xx=counted.filter(pl.col("status") >= 500).height,
        error_rate=num_errors / counted.height if counted.height else 1.0,
        faults=dict(faults.rows()),
        degraded=dict(without.rows()),
        degraded_rate=answered.filter(pl.col("degraded").list.len() > 0).height
        / max(answered.height, 1),
        backlog=late.filter(pl.col("done_s").is_null() | (pl.col("done_s") > end_s)).height,
        late_p99_ms=_quantile(counted, (pl.col("sent_s") - pl.col("due_s")) * 1000, 0.99),
        client_cpu_share=client_cpu_share,
    )


def _latency(rows: pl.DataFrame) -> Latency:
    answered = rows.filter(ANSWERED)
    return Latency(
        rows.height,
        answered.height,
        rows.filter(pl.col("status") == 429).height,
        _quantile(answered, LATENCY_MS, 0.5),
        _quantile(answered, LATENCY_MS, 0.95),
        _quantile(answered, LATENCY_MS, 0.99),
        _quantile(answered, LATENCY_MS, 1.0),
    )


def _quantile(rows: pl.DataFrame, expression: pl.Expr, share: float) -> float | None:
    found = rows.select(expression.quantile(share, "higher")).item()
    return None if found is None else float(found)
