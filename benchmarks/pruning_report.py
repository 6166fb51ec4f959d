"""The pruning benchmark for people: tables on the terminal, and a record with a plot."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from benchmarks.pruning_plot import plot
from benchmarks.pruning_result import (
    HEADLINE_ITEMS,
    HEADLINE_RATIO,
    Cell,
    Gain,
    MixedCell,
    ModelResult,
    Result,
)
from benchmarks.reporting import Rows, record_path, show_tables, write_report

GAINS = ["train x", "read x", "saved", "train x counted", "read x counted"]


def show(result: Result) -> None:
    """Print everything."""
    show_tables(_tables(result), [_conditions(result)])


def write_record(result: Result, folder: Path) -> None:
    """Write the .json, .md and .png of today's measurement on this hardware."""
    path = record_path(folder, result.environment, "pruning")
    picture = path.with_name(f"{path.name}.png")
    plot(result, picture)
    parts = ["# What pruning saves", _conditions(result)]
    parts.append(f"![speed-ups and memory by retention ratio]({picture.name})")
    write_report(path, result.to_json(), parts, _tables(result))


def _tables(result: Result) -> Iterable[tuple[str, list[str], Rows]]:
    yield (
        f"Targets at {HEADLINE_ITEMS} items and ratio {_ratio(HEADLINE_RATIO)}, "
        "against no pruning and no padding",
        ["model", "what", "target", "found", "reached"],
        [
            [each.model, each.what, f"{each.target:.2f}", f"{each.found:.3f}", each.answer]
            for each in result.verdicts()
        ],
    )
    for name, model in result.models.items():
        yield _unpadded(name, model)
        if model.mixed:
            yield _mixed(name, model)


def _unpadded(name: str, model: ModelResult) -> tuple[str, list[str], Rows]:
    head = ["items", "ratio", "rows", "train ms", "read ms", "MB", *GAINS, "read alone x"]

    def row(cell: Cell) -> list[str]:
        cost = cell.cost
        costs = [f"{cost.train_ms:.1f}", f"{cost.encode_ms:.2f}", f"{cost.activation_mb:.1f}"]
        first = [str(cell.items), _ratio(cell.ratio), str(cell.rows), *costs]
        return [*first, *_gains(cell.gain), f"{cell.encode_alone_speedup:.2f}"]

    title = f"{name}: histories of one length, per history, against ratio 1"
    return title, head, [row(cell) for cell in model.unpadded]


def _mixed(name: str, model: ModelResult) -> tuple[str, list[str], Rows]:
    head = ["padded to", "layout", "pruning", "train ms", "read ms", "MB", *GAINS]

    def row(cell: MixedCell) -> list[str]:
        cost = cell.cost
        costs = [f"{cost.train_ms:.1f}", f"{cost.encode_ms:.2f}", f"{cost.activation_mb:.1f}"]
        return [str(cell.padded_to), cell.layout, cell.pruning, *costs, *_gains(cell.gain)]

    title = f"{name}: histories as long as Beauty's, per history, against padding without pruning"
    return title, head, [row(cell) for cell in model.mixed]


def _gains(gain: Gain) -> list[str]:
    return [
        f"{gain.train_speedup:.2f}",
        f"{gain.encode_speedup:.2f}",
        f"{gain.activation_saving:.0%}",
        f"{gain.train_flop_ratio:.2f}",
        f"{gain.encode_flop_ratio:.2f}",
    ]


def _ratio(ratio: float) -> str:
    return str(Fraction(ratio).limit_denominator(12))


def _conditions(result: Result) -> str:
    where = result.environment
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    effort = "A quick run. " if result.quick else ""
    return (
        f"{effort}{where['date']}, commit {where['commit']}, `{where['command']}`; "
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gb']} GB, "
        f"{where['torch_threads']} torch thread, load {where['load_average']} at the start; "
        f"{versions}. Times are least seconds of processor time over interleaved rounds; memory is "
        "what autograd holds from forward to backward; counts are matrix products."
    )
