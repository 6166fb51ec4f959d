"""The catalog benchmark as one picture: growth above, rules below."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.catalog_filters import WHERES
from benchmarks.catalog_result import MOST_FILTER_COST, MOST_GROWTH, MOST_LOAD_S, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ASKED = 20


def plot(result: Result, file: Path) -> None:
    """Draw requests, index and changes over size; returned items and request time over share."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only a record needs it

    figure = Figure(figsize=(15, 8), layout="constrained")
    (requests, index, changes), (returned, *ratios) = figure.subplots(2, 3)
    _requests(requests, result)
    _index(index, result)
    _changes(changes, result)
    _returned(returned, result)
    for axes, items in zip(ratios, _sizes(result), strict=False):
        _ratios(axes, result, items)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def _requests(axes: "Axes", result: Result) -> None:
    items = [each.items for each in result.growth]
    first = result.growth[0].request_ms
    axes.plot(items, [each.request_ms for each in result.growth], "o-", label="measured")
    axes.axhline(MOST_GROWTH * first, color="black", linestyle=":", label="limit")
    axes.set(title="one request, ms", xscale="log", xlabel="items")
    axes.set_ylim(bottom=0)


def _index(axes: "Axes", result: Result) -> None:
    items = [each.items for each in result.growth]
    for name, label in [("build_s", "build"), ("load_s", "load"), ("verify_s", "verify hashes")]:
        axes.plot(items, [getattr(each, name) for each in result.growth], "o-", label=label)
    axes.axhline(MOST_LOAD_S, color="black", linestyle=":", label="limit for loading")
    axes.set(title="index, s", xscale="log", yscale="log", xlabel="items")


def _changes(axes: "Axes", result: Result) -> None:
    items = [each.items for each in result.growth]
    lines = {
        "add_one_ms": "add one",
        "add_hundred_ms": "add a hundred",
        "change_ms": "change one",
        "first_removal_ms": "remove the first",
        "removal_ms": "remove another",
    }
    for name, label in lines.items():
        axes.plot(items, [getattr(each, name) for each in result.growth], "o-", label=label)
    axes.set(title="changes, ms", xscale="log", yscale="log", xlabel="items")


def _returned(axes: "Axes", result: Result) -> None:
    """Of the largest catalog that rules were measured on."""
    items = _sizes(result)[-1]
    cells = [each for each in result.filters.in_beam if each.items == items and each.rule in WHERES]
    shares = [each.share for each in cells]
    axes.plot(shares, [each.returned for each in cells], "o-", label="in the beam of 20")
    for wide in result.filters.afterwards:
        if wide.items == items:
            left = [wide.returned[each.rule] for each in cells]
            axes.plot(shares, left, "o--", label=f"after a beam of {wide.beam_width}")
    axes.axhline(ASKED, color="black", linestyle=":", label="asked for")
    axes.set(title=f"items returned of {items:,}", xscale="log", xlabel="share allowed")
    axes.invert_xaxis()


def _ratios(axes: "Axes", result: Result, items: int) -> None:
    found = {each.rule: each.ratio for each in result.filters.in_beam if each.items == items}
    batches = [each.ratio for each in result.filters.batches if each.items == items]
    found |= dict.fromkeys(["8 rows, 8 filters"], batches[0])
    found |= {
        f"afterwards, beam {each.beam_width}": each.ratio
        for each in result.filters.afterwards
        if each.items == items
    }
    bars = axes.barh(list(found), list(found.values()))
    axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    axes.axvline(MOST_FILTER_COST, color="black", linestyle=":", label="limit")
    axes.set(title=f"request time against no rule, {items:,} items")
    axes.margins(x=0.15)
    axes.invert_yaxis()


def _sizes(result: Result) -> list[int]:
    return sorted({each.items for each in result.filters.in_beam})
