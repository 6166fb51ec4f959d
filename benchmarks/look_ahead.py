"""What reading forced codes in one pass saves: python -m benchmarks.look_ahead SIDS [--json].

SIDS is a table of published semantic IDs (.tsv, .csv, with an item_id and a column per code), e.g.
of Amazon Beauty, whose last codes are mostly certain once the first ones are known. An untrained
model decodes over it, a pass per level and with leaves read ahead; the answers must agree. How many
leaves are left below the beams differs: several batches are measured. What decides is how much a
pass costs beside the rows in it. So there are three engines: TIGER's T5, computed by torch and by
compiled code, and a model whose weights come from memory for each pass.
"""

import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.reporting import record_path
from benchmarks.workload import SHAPES
from model.backbone import STEP_COST, Backbone
from model.beam_search import Beams, beam_search
from model.bundle import new_model
from model.config import QwenConfig, T5Config, parse_model_config
from model.errors import ModelError
from model.kernels.library import Kernels, find
from model.semantic_id import SidTable
from model.speed import accelerate
from model.trie import SidTrie
from training.cost import interleaved_seconds, settle
from training.environment import environment

HISTORY_ITEMS = 20
BATCHES = 4
CELLS = tuple((rows, beams) for rows in (1, 8) for beams in (3, 5, 10, 20, 50))
LARGE_CELLS = ((1, 3), (1, 5), (1, 10))
TARGET = 0.15
"""Share of the decoding time."""
LARGE = QwenConfig(
    codebook_sizes=(1,),
    max_history_items=HISTORY_ITEMS,
    d_model=1024,
    num_heads=16,
    num_kv_heads=8,
    d_kv=128,
    d_ff=3072,
    num_layers=8,
    pruning=None,
)
"""Of Qwen3-0.6B's width, and more than a cache holds: 500 MB."""


@dataclass(frozen=True)
class Cell:
    """Milliseconds of processor time to decode a batch, the histories being read already.

    `chosen`: whether this engine reads ahead at all, unless it is told to.
    """

    engine: str
    chosen: bool
    rows: int
    beams: int
    by_level_ms: float
    ahead_ms: float

    @property
    def saved(self) -> float:
        """Share of the time by level."""
        return round(1 - self.ahead_ms / self.by_level_ms, 4)


def read_sids(path: Path) -> SidTable:
    """The table's codes, each level as wide as its largest code."""
    separator = "," if path.name.endswith((".csv", ".csv.gz")) else "\t"
    frame = pl.read_csv(path, separator=separator).drop("item_id")
    codes = frame.to_numpy().astype(np.int32)
    sizes = tuple((codes.max(axis=0) + 1).tolist())
    return SidTable(codes, sizes, np.zeros(len(codes), dtype=np.int64))


def same(one: Beams, other: Beams) -> bool:
    """Whether two searches found the same leaves in the same order."""
    return torch.equal(one.leaves, other.leaves) and torch.allclose(one.scores, other.scores, 1e-4)


def untrained(table: SidTable, config: T5Config | QwenConfig, kernels: Kernels | None) -> Backbone:
    """A model of this shape for these semantic IDs, as it serves."""
    fields = config.model_dump() | {"codebook_sizes": table.codebook_sizes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_model(parse_model_config(fields)).eval().requires_grad_(requires_grad=False)
        return accelerate(model, "float32", kernels=lambda: kernels)


def engines(table: SidTable) -> dict[str, Backbone]:
    """By name; without compiled code, torch computes all of them."""
    tiger = SHAPES["t5"].model_copy(
        update={"max_history_items": HISTORY_ITEMS, "pruning": None, "dropout": 0.0}
    )
    found = {"torch": untrained(table, tiger, None)}
    kernels = find()
    if kernels is not None:
        found["compiled"] = untrained(table, tiger, kernels)
    found["large"] = untrained(table, LARGE, kernels)
    return found


@torch.inference_mode()
def measure(
    table: SidTable, name: str, model: Backbone, rows: int, beams: int, budget_s: float
) -> Cell:
    """The mean over batches of random histories; ModelError if the answers differ."""
    trie = SidTrie.from_sids(table.sids)
    total = dict.fromkeys((-1, STEP_COST), 0.0)
    for seed in range(BATCHES):
        random = np.random.default_rng(seed)
        histories = random.integers(0, table.num_items, (rows, HISTORY_ITEMS)).tolist()
        tokens, mask = table.pack(histories, separator=False, num_items=HISTORY_ITEMS)
        prompt = model.prompt(torch.from_numpy(tokens), torch.from_numpy(mask))
        searches = {
            cost: partial(beam_search, model, prompt, trie, beams, step_cost=cost) for cost in total
        }
        if not same(*(search() for search in searches.values())):
            raise ModelError(f"{rows} histories, {beams} beams: reading ahead changed the answer")
        seconds = interleaved_seconds(searches, budget_s=budget_s / BATCHES, min_rounds=5)
        total = {cost: total[cost] + seconds[cost] * 1000 / BATCHES for cost in total}
    return Cell(name, model.step_cost >= 0, rows, beams, total[-1], total[STEP_COST])


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    sids: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write .json into this folder.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="For each batch.")] = 6.0,
) -> None:
    """Decode with leaves read ahead and without."""
    settle()
    found_in = environment("benchmarks.look_ahead", sys.argv[1:])
    table = read_sids(sids)
    cells = [
        measure(table, name, model, rows, beams, seconds)
        for name, model in engines(table).items()
        for rows, beams in (LARGE_CELLS if name == "large" else CELLS)
    ]
    saved = {f"{each.engine}_b{each.rows}_k{each.beams}": each.saved for each in cells}
    result = {
        "saved": saved,
        "target": TARGET,
        "reached": [name for name, share in saved.items() if share >= TARGET],
        "items": table.num_items,
        "cells": [asdict(cell) | {"saved": cell.saved} for cell in cells],
        "environment": found_in,
    }
    if record_in is not None:
        path = record_path(record_in, found_in, "look-ahead")
        path.with_name(f"{path.name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if as_json:
        print(json.dumps(result, indent=1))
        return
    shown = Table("engine", "reads ahead", "rows", "beams", "ms by level", "ms ahead", "saved")
    for cell in cells:
        times = (f"{cell.by_level_ms:.1f}", f"{cell.ahead_ms:.1f}")
        engine = (cell.engine, "where it pays" if cell.chosen else "no")
        shown.add_row(*engine, str(cell.rows), str(cell.beams), *times, f"{cell.saved:.1%}")
    Console().print(shown)


if __name__ == "__main__":
    app()
