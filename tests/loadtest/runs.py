"""Rows of made-up runs."""

import polars as pl

from loadtest.plan import Plan
from loadtest.processes import Observed, Usage
from loadtest.records import SCHEMA
from loadtest.schedules import Schedule
from loadtest.session import Outcome
from loadtest.summary import summarize
from loadtest.traffic import NAMES, Visitor

KNOWN, HISTORY = NAMES["known"], NAMES["history"]
SCHEDULE = Schedule("steady", warmup_s=2, duration_s=10)

Row = tuple[str, float, float | None, float | None, int, str | None, list[str]]


def row(
    due_s: float,
    latency_s: float | None = 0.01,
    *,
    name: str = KNOWN,
    status: int = 200,
    fault: str | None = None,
    degraded: tuple[str, ...] = (),
) -> Row:
    """A request that was sent when it was due; latency None: it was never answered."""
    done_s = None if latency_s is None else due_s + latency_s
    return (name, due_s, due_s, done_s, status, fault, list(degraded))


def frame(*rows: Row) -> pl.DataFrame:
    """The rows of a client."""
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row")


def outcome(rows: pl.DataFrame, usage: Usage | None = None) -> Outcome:
    """A run of SCHEDULE with these rows, by a client that can send 100 requests/s."""
    plan = Plan(
        arrivals="open",
        rate=5,
        users=10,
        warmup_s=SCHEDULE.warmup_s,
        duration_s=SCHEDULE.duration_s,
        visitors=(Visitor("secret-user", ("a",)),),
    )
    observed = Observed(rows, cpu_share=0.1, start_s=1_000.0)
    return Outcome(plan, observed, summarize(rows, SCHEDULE, 0.1), usage, client_rate=100)
