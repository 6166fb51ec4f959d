"""A run over time, for pictures. Shape word: bins, pieces of a second or more."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loadtest.schedules import Schedule
from loadtest.summary import ANSWERED, LATENCY_MS
from loadtest.traffic import RECOMMENDS

MOST_BINS = 120
PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A run over time, warm-up included; all but `edges_s` (bins,).

    Args:
        edges_s: (bins + 1,), seconds since the start.
        asked: requests/s due.
        answered: requests/s well answered, by when they were done.
        statuses: requests/s by what became of them, by when they were due.
        percentiles_ms: of answered recommendations due in the bin; nan without any.
    """

    edges_s: Floats
    asked: Floats
    answered: Floats
    statuses: dict[str, Floats]
    percentiles_ms: dict[str, Floats]


def over_time(rows: pl.DataFrame, schedule: Schedule) -> Series:
    """Cut a run into bins of at least a second, MOST_BINS at most.

    Args:
        rows: see loadtest/records.py.
        schedule: of the run.
    """
    bin_s = max(1.0, schedule.total_s / MOST_BINS)
    edges_s = np.linspace(0, schedule.total_s, max(round(schedule.total_s / bin_s), 1) + 1)
    labelled = rows.with_columns(
        label=pl.when(pl.col("status") == 0)
        .then(pl.lit("no answer"))
        .when(pl.col("fault").is_not_null() & (pl.col("status") == 200))
        .then(pl.lit("200, wrong"))
        .otherwise(pl.col("status").cast(pl.String))
    )
    groups = sorted(labelled.group_by("label"), key=lambda pair: str(pair[0]))
    return Series(
        edges_s,
        _per_second(rows["due_s"], edges_s),
        _per_second(rows.filter(ANSWERED)["done_s"], edges_s),
        {str(label): _per_second(part["due_s"], edges_s) for (label,), part in groups},
        _percentiles(rows.filter(ANSWERED & pl.col("name").is_in(RECOMMENDS)), edges_s),
    )


def _per_second(time_s: pl.Series, edges_s: Floats) -> Floats:
    counts, _ = np.histogram(time_s.to_numpy(), edges_s)
    return np.asarray(counts / np.diff(edges_s), dtype=np.float64)


def _percentiles(rows: pl.DataFrame, edges_s: Floats) -> dict[str, Floats]:
    latency_ms = rows.select(LATENCY_MS).to_series().to_numpy()
    places = np.digitize(rows["due_s"].to_numpy(), edges_s) - 1
    bins = [latency_ms[places == place] for place in range(len(edges_s) - 1)]
    return {
        name: np.array([np.percentile(each, share) if len(each) else np.nan for each in bins])
        for name, share in PERCENTILES.items()
    }
