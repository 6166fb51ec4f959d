"""The capacity benchmark for people: tables on the terminal, and a record with a plot."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.capacity_plan import Demand, Reserve
from benchmarks.capacity_plot import plot, short
from benchmarks.capacity_result import Result
from benchmarks.reporting import Titled, record_path, show_tables, write_report


def show(result: Result) -> None:
    """Print everything."""
    show_tables(tables(result), [conditions(result), assumptions()])


def write_record(result: Result, folder: Path) -> None:
    """Write the .json, .md and .png of today's measurement on this hardware."""
    path = record_path(folder, result.environment, "capacity")
    picture = path.with_name(f"{path.name}.png")
    plot(result, picture)
    parts = ["# What a core answers and a user takes", conditions(result), assumptions()]
    parts.append(f"![requests by length, width and catalog; what users need]({picture.name})")
    write_report(path, result.to_json(), parts, tables(result))


def tables(result: Result) -> Iterable[Titled]:
    """Everything measured, then the plan."""
    head = ["history items", "beams", "catalog items", "rows", "CPU ms", "requests/s of a core"]
    cells = [
        [
            str(cell.history),
            str(cell.beams),
            f"{cell.items:,}",
            str(cell.rows),
            f"{cell.ms:.2f}",
            f"{cell.per_second:.0f}",
        ]
        for cell in result.engine
    ]
    yield "The engine alone", head, cells
    yield _http(result)
    head = ["history items", "users", "bytes a user", "bytes an event", "bytes an item id"]
    rows = [
        [
            str(cell.history),
            f"{cell.users:,}",
            f"{cell.user_bytes:.0f}",
            f"{cell.event_bytes:.0f}",
            f"{cell.registry_bytes:.0f}",
        ]
        for cell in result.store
    ]
    yield "A Valkey's memory", head, rows
    yield _plan(result)


def _http(result: Result) -> Titled:
    head = ["history items", "callers", "requests/s", "p50 ms", "p99 ms"]
    head += ["CPU ms", "Valkey's CPU ms"]
    rows = [
        [
            str(cell.history),
            str(cell.callers),
            f"{cell.per_second:.1f}",
            f"{cell.p50_ms:.1f}",
            f"{cell.p99_ms:.1f}",
            f"{cell.service_cpu_ms:.2f}",
            f"{cell.store_cpu_ms:.3f}",
        ]
        for cell in result.http
    ]
    return "The service over HTTP, histories in a Valkey", head, rows


def _plan(result: Result) -> Titled:
    head = ["users", "items", "peak/s", "replicas", "store cores", "store GB"]
    head += ["ids GB", "index GB", "process GB", "machine GB"]
    rows = [
        [
            short(need.demand.users),
            short(need.demand.items),
            f"{need.peak_per_s:,.0f}",
            str(need.replicas),
            f"{need.store_cores:.2f}",
            f"{need.store_gb:.2f}",
            f"{need.registry_gb:.3f}",
            f"{need.index_gb:.2f}",
            f"{need.process_gb:.2f}",
            f"{need.machine_gb:.1f}",
        ]
        for need in result.needs
    ]
    return "The plan", head, rows


def conditions(result: Result) -> str:
    """Where and how it was measured."""
    where = result.environment
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return (
        f"{'A quick run. ' if result.quick else ''}{where['date']}, commit {where['commit']}, "
        f"`{where['command']}`; {where['cpu']}, {where['cores']} cores, {where['memory_gb']} GB, "
        f"load {where['load_average']} at the start; {versions}. An untrained T5, 4 + 4 blocks x "
        "128, SAP at a third, 4 codes an item, no prompt cache. The engine: least processor time "
        "over interleaved rounds, one thread. HTTP: the service on one core, callers and Valkey on "
        f"the other. Index and catalog: {result.catalog.record}, {result.catalog.items:,} items; "
        f"a request over those takes {result.catalog.growth} times as long as over the fewest."
    )


def assumptions() -> str:
    """What the plan assumes."""
    demand, reserve = Demand(0, 0), Reserve()
    return (
        f"The plan: {demand.active:.0%} of the users come on a day, ask {demand.requests:g} times "
        f"and send {demand.events:g} events each; the busiest second has {demand.peak:g} times the "
        f"mean rate; cores answer {reserve.utilisation:.0%} of what they could then, with "
        f"{reserve.spare_replicas} replica to spare; the store has {reserve.store_copies} copies, "
        f"filled to {reserve.store_fill:.0%}; {reserve.cores_a_machine} replicas share a machine. "
        "Beyond the largest measured catalog, bytes an item are taken to stay the same."
    )
