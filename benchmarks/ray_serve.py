"""What Ray Serve costs: python -m benchmarks.ray_serve BUNDLES --histories FILE [--json].

The same service on the same versions, once as `python -m service serve` and once as a replica under
Ray behind its HAProxy, called by turns; both have one process that answers. Needs the extra `ray`.
"""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
import yaml

from benchmarks import ray_cluster
from benchmarks.http_load import Call, Load, Plan, result_of, start_client
from benchmarks.process_tree import ROOT
from benchmarks.ray_cluster import HEAD, Cluster
from benchmarks.reporting import Titled, record_path, show_tables, write_report
from benchmarks.service_process import Server
from training.environment import Environment, environment

LIMIT = 10
MOST_ITEMS = 50
"""Of a history that is sent."""
MOST_OVERHEAD_MS = 1.0
"""What a lone request may take longer under Ray, at the median."""
LEAST_THROUGHPUT = 0.9
"""Of the plain service's requests per second, with the most callers."""
PLAIN, RAY = "uvicorn", "ray"


@dataclass(frozen=True)
class Effort:
    """How much to measure: callers at once, and rounds of so many seconds for each of them."""

    callers: tuple[int, ...]
    rounds: int
    seconds: float


FULL = Effort(callers=(1, 16), rounds=15, seconds=2.0)
QUICK = Effort(callers=(1, 16), rounds=2, seconds=2.0)


@dataclass(frozen=True)
class Cell:
    """What callers of one server saw.

    Args:
        path: that they called.
        callers: at once.
        server: PLAIN or RAY.
        requests_per_s: over all rounds.
        p50_ms: half of the answers took no longer.
        p99_ms: nearly all of them.
        cpu_ms: processor time of every process of the server, a request.
        failed: answers that were not what they should be.
    """

    path: str
    callers: int
    server: str
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    failed: int


@dataclass(frozen=True)
class Target:
    """A server to call: its address, and the processor time it has used so far."""

    url: str
    cpu_s: Callable[[], float]


def config_of(cluster: Cluster, args: dict[str, str]) -> dict[str, Any]:
    """deploy/ray/serve.yaml with one replica on this cluster and other settings."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text("utf-8"))
    config["proxy_location"] = "HeadOnly"
    config["http_options"]["port"] = cluster.port
    application = config["applications"][0]
    application["args"] = args
    application["deployments"][0]["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 1}
    return config


def measure(targets: dict[str, Target], calls: Sequence[Call], effort: Effort) -> list[Cell]:
    """By turns: every server in every round."""
    cells = []
    for sent in ([Call("/health/live", method="GET")], calls):
        for callers in effort.callers:
            loads: dict[str, list[Load]] = {name: [] for name in targets}
            cpu_s = dict.fromkeys(targets, 0.0)
            for _ in range(effort.rounds):
                for name, target in targets.items():
                    before_s = target.cpu_s()
                    plan = Plan(target.url, sent, callers, seconds=effort.seconds)
                    loads[name].append(result_of(start_client(plan)))
                    cpu_s[name] += target.cpu_s() - before_s
            path = sent[0].path
            cells += [_cell(path, callers, name, loads[name], cpu_s[name]) for name in targets]
    return cells


def _cell(path: str, callers: int, server: str, loads: Sequence[Load], cpu_s: float) -> Cell:
    latencies_ms = [ms for load in loads for ms in load.latencies_ms]
    p50_ms, p99_ms = np.percentile(latencies_ms, [50, 99])
    return Cell(
        path,
        callers,
        server,
        requests_per_s=round(len(latencies_ms) / sum(load.seconds for load in loads), 1),
        p50_ms=round(float(p50_ms), 3),
        p99_ms=round(float(p99_ms), 3),
        cpu_ms=round(1000 * cpu_s / len(latencies_ms), 3),
        failed=sum(load.wrong for load in loads),
    )


def compare(bundles: Path, histories: Path, effort: Effort) -> list[Cell]:
    """Start both, call them, end them."""
    frame = pl.read_parquet(histories, columns=["item_ids"])
    newest = frame["item_ids"].list.tail(MOST_ITEMS).to_list()
    calls = [
        Call("/recommend", {"history": items, "limit": LIMIT}, items=LIMIT) for items in newest
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        settings = {
            "bundle_dir": str(bundles.absolute()),
            "history_url": f"sqlite:///{folder}/histories.sqlite3",
            "prompt_cache_mb": "0",
            "effort_wait_ms": "0",  # all of it for every answer
        }
        cluster = stack.enter_context(ray_cluster.running(HEAD))
        cluster.deploy(config_of(cluster, settings))
        plain = stack.enter_context(plain_service(folder / "service.log", settings))
        cluster.until_replicas(1)
        targets = {
            PLAIN: Target(plain.until_ready().url, plain.cpu_s),
            RAY: Target(cluster.url, cluster.cpu_s),
        }
        for target in targets.values():  # once, so that everything is warm
            result_of(start_client(Plan(target.url, calls, count=len(calls))))
        return measure(targets, calls, effort)


def plain_service(log: Path, settings: dict[str, str]) -> Server:
    """`python -m service serve` on a free port."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    return Server(["service", "serve", "--port=0", *flags], log)


def to_json(
    cells: Sequence[Cell], found_in: Environment, ray: str, *, quick: bool
) -> dict[str, Any]:
    """The headline first, then everything."""
    at = {(cell.path, cell.callers, cell.server): cell for cell in cells}
    few, many = min(cell.callers for cell in cells), max(cell.callers for cell in cells)
    lone = [at["/recommend", few, name] for name in (PLAIN, RAY)]
    crowd = [at["/recommend", many, name] for name in (PLAIN, RAY)]
    overhead_ms = round(lone[1].p50_ms - lone[0].p50_ms, 3)
    throughput = round(crowd[1].requests_per_s / crowd[0].requests_per_s, 3)
    return {
        "p50_overhead_ms": overhead_ms,
        "throughput_ratio": throughput,
        "targets": {"p50_overhead_ms": MOST_OVERHEAD_MS, "throughput_ratio": LEAST_THROUGHPUT},
        "reached": overhead_ms <= MOST_OVERHEAD_MS and throughput >= LEAST_THROUGHPUT,
        "cells": [asdict(cell) for cell in cells],
        "quick": quick,
        "ray": ray,
        "environment": found_in,
    }


def tables(cells: Sequence[Cell]) -> list[Titled]:
    """Everything, for people."""
    head = ["path", "callers", "server", "requests/s", "p50 ms", "p99 ms", "CPU ms", "failed"]
    rows = [[str(value) for value in asdict(cell).values()] for cell in cells]
    return [("Requests", head, rows)]


def remarks(result: dict[str, Any]) -> str:
    """Where and how, and the headline."""
    where = result["environment"]
    return (
        f"{'A quick run. ' if result['quick'] else ''}{where['date']}, commit {where['commit']}, "
        f"`{where['command']}`; {where['cpu']}, {where['cores']} cores, load "
        f"{where['load_average']} at the start; ray {result['ray']}, HAProxy ingress. One replica, "
        "one model thread, no prompt cache; callers on the same cores, each with one request at a "
        "time. CPU: all processes of the server, Ray's own included, a request. A lone request "
        f"takes {result['p50_overhead_ms']} ms longer under Ray (aim {MOST_OVERHEAD_MS}); with the "
        f"most callers it answers {result['throughput_ratio']} times as many (aim "
        f"{LEAST_THROUGHPUT}): {'reached' if result['reached'] else 'NOT reached'}."
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    bundles: Annotated[Path, typer.Argument(exists=True)] = Path("bundles/demo-ml100k"),
    histories: Annotated[
        Path, typer.Option(exists=True, help="Parquet with item_ids: what callers liked.")
    ] = Path("runs/demo-ml100k/data/histories.parquet"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="In a minute.")] = False,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write .json and .md into this folder.")
    ] = None,
) -> None:
    """Compare the service with itself under Ray Serve."""
    if find_spec("ray") is None:
        raise typer.BadParameter("Ray is not installed; install requirements/ray.lock")
    found_in = environment("benchmarks.ray_serve", sys.argv[1:])
    cells = compare(bundles, histories, QUICK if quick else FULL)
    result = to_json(cells, found_in, version("ray"), quick=quick)
    if record_in is not None:
        path = record_path(record_in, found_in, "ray-serve")
        write_report(path, result, ["# Ray Serve beside uvicorn", remarks(result)], tables(cells))
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        show_tables(tables(cells), [remarks(result)])


if __name__ == "__main__":
    app()
