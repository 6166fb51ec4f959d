"""Whether the service's memory stays flat: python -m benchmarks.soak [--requests 200000] [--json].

Requests of every kind go over HTTP to the service as it is started, in rounds; after each round
its memory is read. Users, filters, event ids and deny lists are ever new ones, so that whatever
is kept for good would be seen to grow.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from benchmarks.http_connection import LoadError
from benchmarks.http_load import Call, Plan, result_of, start_client
from benchmarks.reporting import Titled, record_path, show_tables, write_report
from benchmarks.service_population import (
    LIMIT,
    SEED,
    Population,
    demo_population,
    given_population,
)
from benchmarks.service_process import Server, ServerError
from training.environment import Environment, environment

CONNECTIONS = 32
ROUNDS = 50
CACHE_MB = 16  # so small that it is full before half of the requests are answered
YEARS = (1920, 2000)
"""Conditions are all over them from first to last: what is asked must not drift, or memory does."""
FLAT_MB = 5.0
"""Most growth in 100,000 requests that is called flat: what an allocator wanders by."""
METHOD = (
    f"`python -m service serve` with SQLite and a prompt cache of {CACHE_MB} MB, one thread for "
    f"the model; a client on {CONNECTIONS} connections checks every status. Of 100 requests 50 are "
    "by stored histories, 15 by their own, 10 filtered, 10 events, 10 reads of histories, 5 "
    "mistakes (422, 404); users, conditions, denied items and event ids are ever new. Memory is "
    "the process's resident set, read when a round is over; the slope is that of a line through "
    "the second half of the rounds, with its standard error."
)


@dataclass(frozen=True)
class Sample:
    """The service after a round: requests so far, and memory."""

    requests: int
    rss_mb: float


@dataclass(frozen=True)
class Result:
    """What a soak came to.

    Args:
        samples: the first one before any request.
        statuses: responses by status.
        wrong: responses with another status than expected.
        remarks: the first few of them.
        per_second: responses.
        slope_mb: growth in 100,000 requests, over the second half.
        slope_error_mb: its standard error.
        environment: where.
    """

    samples: list[Sample]
    statuses: dict[int, int]
    wrong: int
    remarks: list[str]
    per_second: float
    slope_mb: float
    slope_error_mb: float
    environment: Environment

    @property
    def is_flat(self) -> bool:
        """Whether the slope, or what of it is no chance, is at most FLAT_MB."""
        return self.slope_mb - 2 * self.slope_error_mb <= FLAT_MB

    def to_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "requests": self.samples[-1].requests,
            "rss_slope_mb_per_100k": self.slope_mb,
            "flat": self.is_flat,
            **asdict(self),
        }


class Mix:
    """Requests of all kinds, never the same ones again."""

    def __init__(self, population: Population) -> None:
        self._users = population.users
        self._histories = list(population.histories.values())
        self._random = np.random.default_rng(SEED)
        self._number = 0

    def calls(self, count: int) -> list[Call]:
        """The next requests."""
        return [self._call() for _ in range(count)]

    def _call(self) -> Call:
        self._number += 1
        number, kind = self._number, int(self._random.integers(100))
        user = self._users[int(self._random.integers(len(self._users)))]
        history = self._histories[int(self._random.integers(len(self._histories)))]
        item = history[int(self._random.integers(len(history)))]
        if kind < 75:
            return self._recommend(kind, user, history)
        if kind < 85:
            event = {"user_id": f"new-{number}", "item_id": item, "event_id": f"e{number}"}
            return Call("/events", {"events": [event]})
        if kind < 95:
            return Call(f"/users/new-{number - 50}/history", method="GET")
        if kind < 98:
            return Call("/recommend", {"user_id": user, "limit": number % 7 - 7}, status=422)
        return Call(f"/items/no-such-{number}", method="GET", status=404)

    def _recommend(self, kind: int, user: str, history: list[str]) -> Call:
        if kind < 50:
            return Call("/recommend", {"user_id": user, "limit": LIMIT}, items=LIMIT)
        if kind < 65:
            own = [str(item) for item in self._random.permutation(history)]
            return Call("/recommend", {"history": own, "limit": LIMIT}, items=LIMIT)
        rules = {
            "where": f"year >= {self._random.uniform(*YEARS)}",
            "deny": history[: self._number % 7],
        }
        return Call("/recommend", {"user_id": user, "filter": rules})


def soak(population: Population, requests: int, folder: Path, found_in: Environment) -> Result:
    """Send so many requests, in rounds."""
    url = f"sqlite:///{folder / 'histories.sqlite3'}"
    population.fill(url)
    options = {"bundle-dir": population.bundle, "history-url": url, "port": 0}
    pairs = [(f"--{name}", str(value)) for name, value in options.items()]
    command = ["service", "serve", "--prompt-cache-mb", str(CACHE_MB)]
    mix, statuses, remarks, wrong = Mix(population), Counter[int](), list[str](), 0
    with Server([*command, *(word for pair in pairs for word in pair)], folder / "log") as server:
        server.until_ready()
        samples = [Sample(0, server.rss_mb())]
        began_s = time.perf_counter()
        for count in _shares(requests):
            plan = Plan(server.url, mix.calls(count), CONNECTIONS, count=count)
            load = result_of(start_client(plan))
            statuses.update(load.statuses)
            wrong += load.wrong
            remarks += load.remarks
            samples.append(Sample(samples[-1].requests + count, round(server.rss_mb(), 2)))
        seconds = time.perf_counter() - began_s
    slope_mb, error_mb = slope(samples[len(samples) // 2 :])
    return Result(
        samples=samples,
        statuses=dict(sorted(statuses.items())),
        wrong=wrong,
        remarks=remarks[:5],
        per_second=round(requests / seconds, 1),
        slope_mb=round(slope_mb, 2),
        slope_error_mb=round(error_mb, 2),
        environment=found_in,
    )


def slope(samples: Sequence[Sample]) -> tuple[float, float]:
    """MB in 100,000 requests by least squares, and its standard error; at least three samples."""
    at = np.array([sample.requests / 100_000 for sample in samples])
    mb = np.array([sample.rss_mb for sample in samples])
    centred = at - at.mean()
    found = float(centred @ mb / (centred @ centred))
    rest = mb - mb.mean() - found * centred
    error = np.sqrt(rest @ rest / (len(samples) - 2) / (centred @ centred))
    return found, float(error)


def _shares(requests: int) -> Iterator[int]:
    """How many to send in each round."""
    for number in range(ROUNDS):
        if count := requests * (number + 1) // ROUNDS - requests * number // ROUNDS:
            yield count


def _tables(result: Result) -> Iterator[Titled]:
    yield (
        "Memory",
        ["requests", "RSS MB"],
        [[f"{sample.requests:,}", f"{sample.rss_mb:.1f}"] for sample in result.samples],
    )
    rows = [[str(status), f"{number:,}"] for status, number in result.statuses.items()]
    yield "Responses", ["status", "number"], rows


def _remarks(result: Result) -> list[str]:
    verdict = "flat" if result.is_flat else "NOT flat"
    return [
        f"{result.slope_mb:+.2f} MB in 100,000 requests (standard error "
        f"{result.slope_error_mb:.2f}): {verdict}. {result.wrong} responses other than expected; "
        f"{result.per_second:.0f} requests/s, the client's starts included.",
        *result.remarks,
    ]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    requests: Annotated[int, typer.Option(min=300, help="The first half warms up.")] = 200_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle's version; the demo's model, untrained, if none.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="histories.parquet of the run that made the bundle.")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Folder for a .json and .md.")] = None,
) -> None:
    """Let the service answer many requests; exit 1 if one was wrong or memory grew."""
    if (bundle is None) != (data is None):
        sys.exit("give --bundle and --data together")
    found_in = environment("benchmarks.soak", sys.argv[1:])
    with TemporaryDirectory() as name:
        folder = Path(name)
        if bundle is not None and data is not None:
            population = given_population(bundle, data)
        else:
            population = demo_population(folder)
        try:
            result = soak(population, requests, folder, found_in)
        except (ServerError, LoadError) as error:
            sys.exit(f"{error}")
    if record is not None:
        path = record_path(record, found_in, "soak")
        write_report(path, result.to_json(), ["# Soak", METHOD, *_remarks(result)], _tables(result))
    if as_json:
        print(json.dumps(result.to_json()))
    else:
        show_tables(_tables(result), _remarks(result))
    sys.exit(1 if result.wrong or not result.is_flat else 0)


if __name__ == "__main__":
    app()
