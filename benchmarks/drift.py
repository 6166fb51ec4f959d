"""What a speed mode changes and gains: python -m benchmarks.drift BUNDLE_DIR [--data DIR].

Every mode of `model.speed`, and with `--compile` those that torch.compile takes, answers the same
histories as float32: random ones from the catalog, or with `--data`, a run's data folder, those of
test users, whose next items are known then.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import typer
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from model.buckets import Graphs
from model.bundle import Bundle, latest, load_bundle
from model.engine import Engine
from model.errors import ModelError
from model.queries import Answer, Query
from model.speed import SpeedMode
from training.cost import interleaved_seconds, settle
from training.data_config import SplitConfig
from training.dataset import Histories, read_histories, read_items
from training.environment import environment
from training.evaluate import some
from training.metrics import Floats, Ints, bootstrap_interval, ranks_in_lists, recall_at_k
from training.splits import Examples, split_histories

MODES: tuple[SpeedMode, ...] = get_args(SpeedMode)
COMPILED: dict[str, SpeedMode] = {
    "float32, torch.compile": "float32",
    "bfloat16, torch.compile": "bfloat16",
}
REFERENCE: SpeedMode = "float32"
LIMIT = 10
BATCHES = (1, 8)
MIN_WIDTH = 120  # where less fits, a terminal can scroll


@dataclass(frozen=True)
class Drift:
    """One mode beside float32, on the same histories.

    Args:
        overlap: share of float32's first ten items that the mode found too.
        same_first: share of users with the same first item.
        max_score_change: largest difference of an item's score that both found.
        ms: by batch size, least milliseconds of processor time per request.
        speedup: by batch size, against float32.
        recall: recall@10, where the next items are known; else None.
        recall_change: the mean difference of it to float32's, and its 95 % interval.
    """

    overlap: float
    same_first: float
    max_score_change: float
    ms: dict[int, float]
    speedup: dict[int, float]
    recall: float | None = None
    recall_change: tuple[float, float, float] | None = None


def random_examples(num_items: int, max_items: int, num_users: int) -> Examples:
    """Histories of 1 to max_items random items, the same ones every time, and a random target."""
    random = np.random.default_rng(0)
    lengths = random.integers(2, max_items + 2, num_users)
    histories = Histories(
        user_ids=[str(user) for user in range(num_users)],
        items=random.integers(0, num_items, lengths.sum(), dtype=np.int32),
        offsets=np.concatenate(([0], np.cumsum(lengths))),
    )
    return Examples(histories, np.arange(num_users), lengths - 1)


def read_examples(bundle: Bundle, data: Path) -> Examples:
    """The test examples of the recipe that the bundle was trained with.

    Args:
        bundle: whose manifest says how to split.
        data: the prepared data folder of its run.

    Raises:
        ModelError: the folder holds other items than the bundle.
    """
    if read_items(data)["item_id"].to_list() != bundle.catalog.item_ids:
        raise ModelError(f"{data}: other items than the bundle's; name the data of its own run")
    config = SplitConfig.model_validate(bundle.manifest.training["split"])
    return split_histories(read_histories(data), config).test


def answers(engine: Engine, examples: Examples, beam_width: int) -> list[Answer]:
    """What the engine says to every history, several at a time."""
    queries = [
        Query(examples.history(example).tolist(), limit=LIMIT, beam_width=beam_width)
        for example in range(len(examples))
    ]
    size = BATCHES[-1]
    batches = [queries[start : start + size] for start in range(0, len(queries), size)]
    return [answer for batch in batches for answer in engine.recommend(batch)]


def request_ms(
    engines: dict[str, Engine], beam_width: int, budget_s: float
) -> dict[int, dict[str, float]]:
    """By batch size and mode, least milliseconds per request with full histories."""
    engine = engines[REFERENCE]
    longest = engine.manifest.model.max_history_items
    found = {}
    for rows in BATCHES:
        items = np.random.default_rng(rows).integers(0, len(engine.catalog), (rows, longest))
        queries = [Query(row, limit=LIMIT, beam_width=beam_width) for row in items.tolist()]
        works = {mode: _Request(engine, queries) for mode, engine in engines.items()}
        seconds = interleaved_seconds(works, budget_s)
        found[rows] = {mode: 1e3 * least / rows for mode, least in seconds.items()}
    return found


@dataclass(frozen=True)
class _Request:
    engine: Engine
    queries: Sequence[Query]

    def __call__(self) -> None:
        self.engine.recommend(self.queries)


def engines_of(
    bundle: Bundle,
    beam_width: int,
    *,
    compiled: bool,
    make: Callable[..., Engine] = Engine.from_bundle,
) -> dict[str, Engine]:
    """By the name of the mode; compiled ones take minutes each."""
    found: dict[str, Engine] = {mode: make(bundle, dtype=mode) for mode in MODES}
    if compiled:
        graphs = Graphs(BATCHES, beam_width)
        found |= {name: make(bundle, dtype=mode, graphs=graphs) for name, mode in COMPILED.items()}
    return found


def measure(
    bundle: Bundle,
    examples: Examples,
    *,
    known: bool,
    beam_width: int,
    budget_s: float,
    compiled: bool = False,
) -> dict[str, Drift]:
    """Every mode beside float32.

    Args:
        bundle: whose model answers.
        examples: whose histories it is asked.
        known: their targets are what really came next.
        beam_width: of every request.
        budget_s: for the timing of each batch size.
        compiled: also the modes that torch.compile takes.
    """
    engines = engines_of(bundle, beam_width, compiled=compiled)
    ms = request_ms(engines, beam_width, budget_s)
    given = {mode: answers(engine, examples, beam_width) for mode, engine in engines.items()}
    hits = {mode: _hits(found, examples) for mode, found in given.items()}
    return {
        mode: Drift(
            *compare(given[REFERENCE], given[mode]),
            ms={rows: round(ms[rows][mode], 3) for rows in BATCHES},
            speedup={rows: round(ms[rows][REFERENCE] / ms[rows][mode], 2) for rows in BATCHES},
            recall=float(hits[mode].mean()) if known else None,
            recall_change=_change(hits[mode] - hits[REFERENCE]) if known else None,
        )
        for mode in engines
    }


def compare(reference: Sequence[Answer], other: Sequence[Answer]) -> tuple[float, float, float]:
    """The first three fields of Drift."""
    common, total, same, largest = 0, 0, 0, 0.0
    for old, new in zip(reference, other, strict=True):
        before = {item.item_index: item.score for item in old.items}
        after = {item.item_index: item.score for item in new.items}
        both = before.keys() & after
        common, total = common + len(both), total + len(before)
        same += next(iter(before), None) == next(iter(after), None)
        largest = max(largest, *(abs(before[item] - after[item]) for item in both), 0.0)
    return common / max(total, 1), same / len(reference), largest


def _hits(given: Sequence[Answer], examples: Examples) -> Floats:
    """(num_examples,): 1 where the target is among the items, else 0."""
    lists: Ints = np.full((len(given), LIMIT), -1, dtype=np.int64)
    for row, answer in enumerate(given):
        lists[row, : len(answer.items)] = [item.item_index for item in answer.items]
    return recall_at_k(ranks_in_lists(lists, examples.targets), LIMIT)


def _change(differences: Floats) -> tuple[float, float, float]:
    low, high = bootstrap_interval(differences, np.random.default_rng(0))
    return float(differences.mean()), low, high


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    bundle_dir: Annotated[Path, typer.Argument(help="A bundle, or a folder of versions.")],
    data: Annotated[
        Path | None, typer.Option(help="data/ of the bundle's run: ask for its test users.")
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="At most so many histories.")] = 1000,
    beam_width: Annotated[int, typer.Option(min=LIMIT)] = 20,
    seconds: Annotated[float, typer.Option(help="To time each batch size.")] = 10.0,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also by torch.compile, which takes minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare every speed mode with float32, on one thread."""
    settle()
    found_in = environment("benchmarks.drift", sys.argv[1:])
    bundle = load_bundle(latest(bundle_dir))
    if data is None:
        longest = bundle.manifest.model.max_history_items
        examples = random_examples(len(bundle.catalog), longest, users)
    else:
        examples = some(read_examples(bundle, data), users)
    found = measure(
        bundle,
        examples,
        known=data is not None,
        beam_width=beam_width,
        budget_s=seconds,
        compiled=compiled,
    )
    if as_json:
        modes: JsonValue = {mode: json.loads(json.dumps(asdict(found[mode]))) for mode in found}
        asked = {"bundle": bundle.manifest.version, "users": len(examples), "beam": beam_width}
        print(json.dumps({**asked, "modes": modes, "environment": found_in}, indent=1))
        return
    console = Console()
    Console(width=max(console.width, MIN_WIDTH)).print(table(found))


def table(found: Mapping[str, Drift]) -> Table:
    """One row a mode, for people."""
    times = [f"ms, batch of {rows}" for rows in BATCHES]
    shown = Table("mode", "same of 10", "same first", "score by", *times, "recall@10", "by")
    for mode, drift in found.items():
        costs = [f"{drift.ms[rows]:.2f} (x {drift.speedup[rows]:.2f})" for rows in BATCHES]
        quality = ["", ""]
        if drift.recall is not None and drift.recall_change is not None:
            change, low, high = drift.recall_change
            quality = [f"{drift.recall:.4f}", f"{change:+.4f} ({low:+.4f} to {high:+.4f})"]
        same = [f"{drift.overlap:.4f}", f"{drift.same_first:.4f}"]
        shown.add_row(mode, *same, f"{drift.max_score_change:.3f}", *costs, *quality)
    return shown


if __name__ == "__main__":
    app()
