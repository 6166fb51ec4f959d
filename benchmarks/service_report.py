"""The service's benchmark for people: tables on the terminal, and a record."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.reporting import Rows, Titled, record_path, show_tables, write_report
from benchmarks.service_result import LEAST, MOST, Result

METHOD = (
    "The service runs as it is started by `python -m service serve`, in a process with a core of "
    "its own, one thread for the model, its prompt cache off, with a log line for every request; "
    "the client, in another process on another core, sends users' ids over connections that stay "
    "open, one request at a time each, and checks status and content of every response. "
    "*Overhead*: the time from writing a request to its whole response, without the time that the"
    " model took for this request (in its Server-Timing header), one at a time. *Processor time*:"
    " of the whole process in user and system mode, with an engine that answers everybody from "
    "one recorded answer; *echo* is FastAPI alone, under the same server with the same settings. "
    "*Batch efficiency*: responses a second over HTTP, divided by what the engine alone does on "
    "that core right after it, on the same queries in batches of as many rows as the service's "
    "had on average. *Beside transformers*: the same weights, beams and requests, rankings "
    "compared first."
)


def show(result: Result) -> None:
    """Print everything."""
    show_tables(_tables(result), _remarks(result))


def write_record(result: Result, folder: Path) -> None:
    """Write the .json and .md of today's measurement on this hardware."""
    path = record_path(folder, result.environment, "service")
    parts = ["# What the service costs beside its model", METHOD, *_remarks(result)]
    write_report(path, result.to_json(), parts, _tables(result))


def _tables(result: Result) -> Iterable[Titled]:
    found = result.headlines()
    verdicts = [
        [
            name,
            f"<= {MOST[name]:g}" if name in MOST else f">= {LEAST[name]:g}",
            f"{found[name]:.3g}",
            "yes" if yes else "NO",
        ]
        for name, yes in result.reached().items()
    ]
    yield "Targets", ["what", "target", "found", "reached"], verdicts
    yield _overheads(result)
    yield _costs(result)
    yield _batching(result)
    if result.versus:
        yield _versus(result)


def _overheads(result: Result) -> Titled:
    head = ["store", "requests", "overhead p50 ms", "p99 ms", "whole p50 ms", "model p50 ms"]
    rows = [
        [
            store,
            f"{each.requests:,}",
            f"{each.p50_ms:.2f}",
            f"{each.p99_ms:.2f}",
            f"{each.whole_p50_ms:.2f}",
            f"{each.model_p50_ms:.2f}",
        ]
        for store, each in result.overheads.items()
    ]
    return "One request at a time", head, rows


def _costs(result: Result) -> Titled:
    head = ["server", "requests", "us a request", "median us", "requests/s", "client's us"]
    rows = [
        [
            name,
            f"{each.requests:,}",
            f"{each.us_per_request:.0f}",
            f"{each.median_us_per_request:.0f}",
            f"{each.per_second:,.0f}",
            f"{each.client_us_per_request:.0f}",
        ]
        for name, each in result.costs.items()
    ]
    return f"Processor time without a model, {result.concurrency} at a time", head, rows


def _batching(result: Result) -> Titled:
    head = ["round", "rows", "HTTP/s", "engine/s", "efficiency", "full batches/s"]
    head += ["CPU ms", "engine's CPU ms", "model busy"]
    rows: Rows = [
        [
            str(number),
            f"{each.rows:.1f}",
            f"{each.per_second:.1f}",
            f"{each.offline_per_second:.1f}",
            f"{each.efficiency:.3f}",
            f"{each.offline_full_per_second:.1f}",
            f"{1e3 * each.cpu_s:.2f}",
            f"{1e3 * each.offline_cpu_s:.2f}",
            f"{each.model_busy:.0%}",
        ]
        for number, each in enumerate(result.batching, start=1)
    ]
    return f"{result.concurrency} at a time, and the engine alone", head, rows


def _versus(result: Result) -> Titled:
    head = ["transformers", "beams", "ours/s", "theirs/s", "x", "x by CPU", "ours, pruned/s"]
    rows = [
        [
            each.peer,
            str(each.beams),
            f"{each.per_second:.1f}",
            f"{each.peer_per_second:.1f}",
            f"{each.ratio:.1f}",
            f"{each.cpu_ratio:.1f}",
            f"{each.pruned_per_second:.1f}",
        ]
        for each in result.versus
    ]
    return f"A T5 of 4 + 4 blocks x 128, {result.concurrency} at a time", head, rows


def _remarks(result: Result) -> list[str]:
    where, probed = result.environment, result.health
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    lines = [f"{what} skipped: {how}" for what, how in result.skipped.items()]
    if not result.own_cores:
        lines.append("Server and client shared one core.")
    lines.append(
        f"`/health/live` under full load, {probed.probes:,} probes: p50 {probed.p50_ms:.2f} ms, "
        f"p99 {probed.p99_ms:.2f} ms, longest {probed.most_ms:.1f} ms."
    )
    lines.append(
        f"{where['date']}, commit {where['commit']}, `{where['command']}`; {where['cpu']}, "
        f"{where['cores']} cores, {where['memory_gb']} GB, {where['torch_threads']} torch thread, "
        f"load {where['load_average']} at the start; {versions}."
    )
    return lines
