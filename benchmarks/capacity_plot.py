"""The capacity benchmark as one picture: what a core answers above, what users need below."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.capacity_result import EngineCell, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(result: Result, file: Path) -> None:
    """Draw requests per second of a core by three things, memory of the store, and the plan."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only a record needs it

    figure = Figure(figsize=(15, 8), layout="constrained")
    (history, beams, items), (memory, replicas, gigabytes) = figure.subplots(2, 3)
    typical = result.engine[0]
    _rates(
        history,
        result,
        lambda cell: cell.history,
        lambda cell: (cell.beams, cell.items) == (typical.beams, typical.items),
    )
    history.set(title="requests/s of a core, engine alone", xlabel="items of a history")
    _rates(
        beams,
        result,
        lambda cell: cell.beams,
        lambda cell: (cell.history, cell.items) == (typical.history, typical.items),
    )
    beams.set(title="requests/s of a core, engine alone", xlabel="beams")
    _rates(
        items,
        result,
        lambda cell: cell.items,
        lambda cell: (cell.history, cell.beams) == (typical.history, typical.beams),
    )
    items.set(title="requests/s of a core, engine alone", xlabel="items of the catalog")
    items.set_xscale("log")
    _memory(memory, result)
    _replicas(replicas, result)
    _gigabytes(gigabytes, result)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def _rates(
    axes: "Axes",
    result: Result,
    along: Callable[[EngineCell], int],
    belongs: Callable[[EngineCell], bool],
) -> None:
    for rows in sorted({cell.rows for cell in result.engine}):
        cells = [cell for cell in result.engine if cell.rows == rows and belongs(cell)]
        points = sorted((along(cell), cell.per_second) for cell in cells)
        axes.plot(*zip(*points, strict=True), "o-", label=f"{rows} in a batch")
    axes.set_ylim(bottom=0)


def _memory(axes: "Axes", result: Result) -> None:
    lengths = [cell.history for cell in result.store]
    axes.plot(lengths, [cell.user_bytes for cell in result.store], "o-", label="a user's history")
    axes.plot(lengths, [cell.event_bytes for cell in result.store], "o-", label="an event's id")
    axes.set(title="memory of a Valkey, bytes", xlabel="items of a history")
    axes.set_ylim(bottom=0)


def _replicas(axes: "Axes", result: Result) -> None:
    users = [need.demand.users for need in result.needs]
    axes.plot(users, [need.peak_per_s for need in result.needs], "o-", label="requests/s, peak")
    axes.plot(users, [need.replicas for need in result.needs], "o-", label="replicas")
    axes.set(title="the plan: rate and replicas", xscale="log", yscale="log", xlabel="users")


def _gigabytes(axes: "Axes", result: Result) -> None:
    names = [
        f"{short(need.demand.users)} users\n{short(need.demand.items)} items"
        for need in result.needs
    ]
    for name, label in [
        ("store_gb", "store, all copies"),
        ("machine_gb", "machine of replicas"),
        ("process_gb", "one process"),
    ]:
        axes.plot(names, [getattr(need, name) for need in result.needs], "o-", label=label)
    axes.set(title="the plan: memory, GB", yscale="log")
    axes.tick_params(axis="x", labelsize=7)


def short(number: int) -> str:
    """10000000 as 10M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size:
            return f"{number // size}{unit}"
    return str(number)
