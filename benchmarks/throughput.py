"""Recommendations/s of the engine alone: python -m benchmarks.throughput BUNDLE_DIR --data FILE.

No network, no queue, no store: what a service of the same bundle could reach at most. The users are
those of a load test: all of the file, the longest history first, drawn by Zipf's law. Without the
cache every history is read; with it, one that came before and is still kept is not.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from polars.exceptions import PolarsError

from benchmarks.reporting import show_tables
from model.bundle import Bundle, latest, load_bundle
from model.engine import Engine
from model.errors import ModelError
from model.queries import Query
from training.cost import settle
from training.environment import environment

BATCH_ROWS = (1, 8, 32)
CACHES = {"no cache": 0, "cache of 256 MB": 256 << 20}
DRAWS = 20_000
ZIPF = 1.07
WARM_UP_S = 1.0


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Args:
        rows: histories in a batch.
        cache: which of CACHES.
        per_second: recommendations/s by the clock on the wall, each of ten items.
        hits: share of histories that the cache held.
    """

    rows: int
    cache: str
    per_second: float
    hits: float


def read_queries(data: Path, bundle: Bundle, seed: int = 0) -> list[Query]:
    """Questions of users who are drawn by Zipf's law, in the order in which they come.

    Args:
        data: parquet of user_id and item_ids, oldest first.
        bundle: whose items are known; others are left out.
        seed: of the draw.

    Raises:
        ModelError: not such a file, or no user has a known item.
    """
    try:
        histories = pl.read_parquet(data, columns=["item_ids"])["item_ids"].to_list()
    except (OSError, PolarsError) as error:
        raise ModelError(f"{data}: not a parquet file of user_id and item_ids") from error
    catalog, longest = bundle.catalog, bundle.manifest.model.max_history_items
    found = [
        [index for item_id in item_ids or [] if (index := catalog.index_of(item_id)) is not None]
        for item_ids in histories
    ]
    users = sorted((user[-longest:] for user in found if user), key=len, reverse=True)
    if not users:
        raise ModelError(f"{data}: no user has an item that the bundle knows")
    weights = np.arange(1, len(users) + 1) ** -ZIPF
    random = np.random.default_rng(seed)
    drawn = random.choice(len(users), DRAWS, p=weights / weights.sum())
    return [Query(users[user]) for user in drawn]


def measure(bundle: Bundle, queries: Sequence[Query], budget_s: float) -> list[Cell]:
    """Answer the questions in batches of each size, with and without the cache.

    Args:
        bundle: to answer from, in float32.
        queries: in the order in which they come; begun again at the end.
        budget_s: for each cell, after WARM_UP_S at most.
    """
    return [
        _cell(bundle, queries, rows, cache, budget_s) for cache in CACHES for rows in BATCH_ROWS
    ]


def _cell(bundle: Bundle, queries: Sequence[Query], rows: int, cache: str, budget_s: float) -> Cell:
    engine = Engine.from_bundle(bundle, cache_bytes=CACHES[cache])
    place = 0

    def answer_for(seconds: float) -> float:
        """Recommendations/s over so many seconds, at least one batch."""
        nonlocal place
        begin_s, done = time.perf_counter(), 0
        while not done or time.perf_counter() - begin_s < seconds:
            engine.recommend([queries[(place + row) % len(queries)] for row in range(rows)])
            place, done = place + rows, done + rows
        return done / (time.perf_counter() - begin_s)

    answer_for(min(WARM_UP_S, budget_s))
    before = engine.prompts.stats()
    per_second = answer_for(budget_s)
    stats = engine.prompts.stats()
    hits, misses = stats.hits - before.hits, stats.misses - before.misses
    return Cell(rows, cache, per_second, hits / max(hits + misses, 1))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    bundle_dir: Annotated[Path, typer.Argument(help="Folder of a model's versions, or of one.")],
    *,
    data: Annotated[Path, typer.Option(help="Parquet of user_id and item_ids.")],
    seconds: Annotated[float, typer.Option(min=0, help="For each cell.")] = 5.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write it there too.")] = None,
) -> None:
    """Measure the engine on one thread."""
    settle()
    found_in = environment("benchmarks.throughput", sys.argv[1:])
    try:
        bundle = load_bundle(latest(bundle_dir))
        queries = read_queries(data, bundle)
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    cells = measure(bundle, queries, seconds)
    head = ["cache", "rows in a batch", "recommendations/s", "held by the cache"]
    rows = [[c.cache, str(c.rows), f"{c.per_second:.1f}", f"{c.hits:.1%}"] for c in cells]
    title = f"{bundle.manifest.name}/{bundle.manifest.version}"
    show_tables([(title, head, rows)], [])
    if json_file is not None:
        result = {
            "bundle": bundle.manifest.version,
            "cells": [asdict(cell) for cell in cells],
            "environment": found_in,
        }
        json_file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    app()
