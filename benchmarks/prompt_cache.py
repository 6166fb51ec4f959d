"""What it saves to keep what the model read: python -m benchmarks.prompt_cache [--quick] [--json].

An untrained T5 of TIGER's shape answers histories of full length over a made-up catalog, through
the engine, with its cache and without. A *hit* is a history that was asked for before.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from benchmarks.reporting import markdown, record_path, write_report
from benchmarks.workload import SHAPES
from model.bundle import Manifest, new_model
from model.catalog import Catalog
from model.config import ModelConfig, QwenConfig, T5Config
from model.engine import Engine, Query
from model.semantic_id import SidTable
from model.speed import accelerate
from training.cost import interleaved_seconds, settle
from training.environment import Environment, environment

HEADLINE_ITEMS, HEADLINE_BEAMS = 20, 10
TARGET = 1.5
"""How much faster a lone hit is to be at that length and width, and the model's own ratio."""
ROWS = 8
CATALOG_ITEMS = 12_000  # as Amazon Beauty has
CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class Effort:
    """How much to measure: history lengths in items, beam widths, and for how long each."""

    lengths: tuple[int, ...]
    beam_widths: tuple[int, ...]
    budget_s: float
    min_rounds: int


FULL = Effort(lengths=(20, 50, 100), beam_widths=(10, 20), budget_s=12, min_rounds=5)
QUICK = Effort(lengths=(20,), beam_widths=(10,), budget_s=2, min_rounds=3)


@dataclass(frozen=True)
class Cell:
    """One comparison: milliseconds of processor time for a batch.

    Args:
        items: of every history.
        ratio: retention ratio, as a fraction.
        rows: in the batch.
        beam_width: prefixes kept per level.
        ms: by what the cache knows of the batch, "off" without a cache.
    """

    items: int
    ratio: str
    rows: int
    beam_width: int
    ms: Mapping[str, float]

    @property
    def speedups(self) -> dict[str, float]:
        """Against no cache."""
        return {name: round(self.ms["off"] / ms, 3) for name, ms in self.ms.items()}


class Pair:
    """The same model behind an engine with a cache and one without."""

    def __init__(self, config: T5Config | QwenConfig, items: int) -> None:
        config = config.model_copy(update={"max_history_items": items})
        self.items, self.random = items, np.random.default_rng(0)
        self.ratios = (1.0, config.default_retention_ratio)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = accelerate(
                new_model(config).eval().requires_grad_(requires_grad=False), "float32"
            )
        codes = [self.random.integers(size, size=CATALOG_ITEMS) for size in config.codebook_sizes]
        popularity = np.zeros(CATALOG_ITEMS, dtype=np.int64)
        sids = SidTable(np.stack(codes, 1).astype(np.int32), config.codebook_sizes, popularity)
        names = pl.Series([str(item) for item in range(CATALOG_ITEMS)])
        catalog = Catalog.from_frame(
            pl.DataFrame({"item_id": names, "title": names, "popularity": popularity})
        )
        self.plain, self.cached = (
            Engine(
                _manifest(config), model, sids, catalog, retention_ratios=self.ratios, cache_bytes=n
            )
            for n in (0, CACHE_BYTES)
        )

    def histories(self, rows: int) -> list[list[int]]:
        """Histories that nobody asked for."""
        return self.random.integers(CATALOG_ITEMS, size=(rows, self.items)).tolist()  # type: ignore[no-any-return]

    def compare(
        self, rows: int, ratio: float, beam_width: int, known: Sequence[int], effort: Effort
    ) -> Cell:
        """Time batches of which the cache knows so many rows, beside no cache."""
        fixed = self.histories(rows)

        def work(engine: Engine, num_known: int) -> Callable[[], object]:
            return lambda: engine.recommend(
                [
                    Query(history, beam_width=beam_width, retention_ratio=ratio)
                    for history in fixed[:num_known] + self.histories(rows - num_known)
                ]
            )

        works = {"off": work(self.plain, 0)}
        works |= {f"{n} of {rows} known": work(self.cached, n) for n in known}
        best = interleaved_seconds(works, effort.budget_s, effort.min_rounds)
        ms = {name: round(1e3 * seconds, 3) for name, seconds in best.items()}
        return Cell(self.items, _fraction(ratio), rows, beam_width, ms)

    def bytes_per_entry(self, ratio: float) -> int:
        """What one history takes in the cache."""
        self.cached.prompts.clear()
        self.cached.recommend([Query(self.histories(1)[0], retention_ratio=ratio)])
        return self.cached.prompts.stats().num_bytes


def measure(config: T5Config | QwenConfig, effort: Effort) -> tuple[list[Cell], dict[str, int]]:
    """Every comparison, and the bytes of an entry by "items at ratio"."""
    cells, sizes = [], {}
    for items in effort.lengths:
        pair = Pair(config, items)
        for ratio in pair.ratios:
            sizes[f"{items} items at {_fraction(ratio)}"] = pair.bytes_per_entry(ratio)
            cells += [pair.compare(1, ratio, beams, [1, 0], effort) for beams in effort.beam_widths]
        if items == HEADLINE_ITEMS:
            for ratio in pair.ratios:
                known = [ROWS, ROWS // 2, 0]
                cells.append(pair.compare(ROWS, ratio, HEADLINE_BEAMS, known, effort))
    return cells, sizes


def report(
    config: ModelConfig, cells: Sequence[Cell], sizes: Mapping[str, int]
) -> dict[str, JsonValue]:
    """What was found, the headline first."""
    ratio = _fraction(config.default_retention_ratio)
    headline = (HEADLINE_ITEMS, ratio, HEADLINE_BEAMS)
    alone, batch = (
        next(
            cell.speedups
            for cell in cells
            if (cell.items, cell.ratio, cell.beam_width) == headline and cell.rows == rows
        )
        for rows in (1, ROWS)
    )
    return {
        "speedup_b1": alone["1 of 1 known"],
        "target_speedup_b1": TARGET,
        "reached": alone["1 of 1 known"] >= TARGET,
        "speedup_b8": {**batch},
        "bytes_per_entry": {**sizes},
        "cells": [asdict(cell) | {"speedups": cell.speedups} for cell in cells],
        "config": config.model_dump(mode="json"),
    }


def _manifest(config: T5Config | QwenConfig) -> Manifest:
    return Manifest(
        name="benchmark",
        version="1",
        created_at="2026-01-01T00:00:00Z",
        model=config,
        training={},
        metrics={},
        sap_profile=(),
        files={},
    )


def _fraction(ratio: float) -> str:
    return str(Fraction(ratio).limit_denominator(12))


Rows = list[list[str]]


def tables(cells: Sequence[Cell], sizes: Mapping[str, int]) -> list[tuple[list[str], Rows]]:
    """Heads and rows: the comparisons, and what a history takes."""
    times = [
        [
            *(str(cell.items), cell.ratio, str(cell.rows), str(cell.beam_width), name),
            *(f"{ms:.2f}", f"{cell.speedups[name]:.2f}"),
        ]
        for cell in cells
        for name, ms in cell.ms.items()
    ]
    memory = [[name, f"{size / 1e3:.0f}"] for name, size in sizes.items()]
    return [
        (["items", "ratio", "rows", "beams", "cache", "ms", "speed-up"], times),
        (["history", "kB in the cache"], memory),
    ]


def show(cells: Sequence[Cell], sizes: Mapping[str, int]) -> None:
    """Tables on the terminal."""
    for head, rows in tables(cells, sizes):
        table = Table(*head)
        for row in rows:
            table.add_row(*row)
        Console().print(table)


def write_record(
    result: Mapping[str, JsonValue],
    cells: Sequence[Cell],
    sizes: Mapping[str, int],
    found_in: Environment,
    folder: Path,
) -> None:
    """Write the .json and .md of today's measurement on this hardware."""
    path = record_path(folder, found_in, "prompt-cache")
    versions = ", ".join(f"{name} {version}" for name, version in found_in["versions"].items())
    parts = [
        "# What the prompt cache saves",
        f"{found_in['date']}, commit {found_in['commit']}, `{found_in['command']}`; "
        f"{found_in['cpu']}, {found_in['cores']} cores, {found_in['torch_threads']} torch thread; "
        f"{versions}. An untrained T5 of 4 + 4 blocks x 128 answers through the engine. Times are "
        "least milliseconds of processor time of a batch, over interleaved rounds; speed-ups are "
        "over the same engine without a cache.",
        f"A lone history of {HEADLINE_ITEMS} items that is known: {result['speedup_b1']} times as "
        f"fast, target {TARGET}.",
    ]
    parts.extend(markdown(head, rows) for head, rows in tables(cells, sizes))
    write_report(path, result, parts, [])


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only what has a target.")] = False,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write .json and .md into this folder.")
    ] = None,
) -> None:
    """Measure what the prompt cache saves, on one thread."""
    settle()
    found_in = environment("benchmarks.prompt_cache", sys.argv[1:])
    config = SHAPES["t5"]
    cells, sizes = measure(config, QUICK if quick else FULL)
    result = report(config, cells, sizes) | {"environment": json.loads(json.dumps(found_in))}
    if record_in is not None:
        write_record(result, cells, sizes, found_in, record_in)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        show(cells, sizes)


if __name__ == "__main__":
    app()
