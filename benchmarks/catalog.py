"""Large catalogs, and rules about them: python -m benchmarks.catalog [--quick] [--json].

One untrained T5 answers over 12 thousand to 10 million items: what a request, the index and every
change cost. Then filters and lists inside the beam: whether answers are full and legal, what they
cost, and what is left of a wide search that is filtered afterwards. All computes on one thread.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.catalog_filters import measure_filters
from benchmarks.catalog_growth import measure_growth, open_shop, request_ms
from benchmarks.catalog_items import CONFIG, Parts, random_histories
from benchmarks.catalog_report import show, write_record
from benchmarks.catalog_result import Filters, Result
from model.config import T5Config
from training.cost import settle
from training.environment import Environment, environment


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Args:
        sizes: of catalogs, ascending.
        filtered: those of them that rules are measured on.
        users: random histories whose answers are checked.
        timed: so many of them are asked for in a round of times.
        budget_s: for the rounds of one comparison.
        min_rounds: of one comparison, however long they take.
        repeats: of each change to the catalog.
    """

    sizes: tuple[int, ...]
    filtered: tuple[int, ...]
    users: int
    timed: int
    budget_s: float
    min_rounds: int
    repeats: int


FULL = Effort(
    sizes=(12_000, 100_000, 1_000_000, 10_000_000),
    filtered=(12_000, 1_000_000),
    users=40,
    timed=10,
    budget_s=60,
    min_rounds=7,
    repeats=3,
)
QUICK = Effort(
    sizes=(12_000, 100_000, 1_000_000),
    filtered=(12_000, 1_000_000),
    users=20,
    timed=4,
    budget_s=0,
    min_rounds=3,
    repeats=2,
)


def measure(config: T5Config, effort: Effort, found_in: Environment, *, quick: bool) -> Result:
    """Everything, in this order: requests, rules, and last what changes the catalogs."""
    parts = Parts.random(config)
    histories = random_histories(effort.users, effort.sizes[0], config)
    few = histories[: effort.timed]
    with tempfile.TemporaryDirectory() as folder:
        shops = [open_shop(parts, size, Path(folder) / str(size), few) for size in effort.sizes]
        milliseconds = request_ms(shops, few, effort.budget_s, effort.min_rounds)
        measured = [
            measure_filters(
                shop.engine,
                histories,
                timed=effort.timed,
                budget_s=effort.budget_s,
                min_rounds=effort.min_rounds,
            )
            for shop in shops
            if shop.num_items in effort.filtered
        ]
        growth = [
            measure_growth(shop, each, effort.repeats)
            for shop, each in zip(shops, milliseconds, strict=True)
        ]
    filters = Filters(
        [cell for each in measured for cell in each.in_beam],
        [cell for each in measured for cell in each.afterwards],
        [cell for each in measured for cell in each.batches],
    )
    return Result(growth, filters, quick, found_in)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Up to a million items, in less than 60 s.")
    ] = False,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write .json, .md and .png into this folder.")
    ] = None,
) -> None:
    """Measure large catalogs and rules about them, on one thread."""
    settle()
    found_in = environment("benchmarks.catalog", sys.argv[1:])
    result = measure(CONFIG, QUICK if quick else FULL, found_in, quick=quick)
    if record_in is not None:
        write_record(result, record_in)
    if as_json:
        print(json.dumps(result.to_json(), indent=1))
    else:
        show(result)


if __name__ == "__main__":
    app()
