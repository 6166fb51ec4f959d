"""The pruning benchmark as one picture: a row of panels per model."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.pruning_result import (
    HEADLINE_ITEMS,
    HEADLINE_RATIO,
    TARGETS,
    Cell,
    ModelResult,
    Result,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPERS_LENGTH = 30


class Panel(NamedTuple):
    """One gain over the retention ratio."""

    gain: str
    title: str


PANELS = (
    Panel("train_speedup", "training step, speed-up"),
    Panel("activation_saving", "activation memory, share saved"),
    Panel("encode_speedup", "reading a history, speed-up"),
)


def plot(result: Result, file: Path) -> None:
    """Draw every gain over the ratio, a line per length, and the mix of lengths as bars."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only a record needs it

    figure = Figure(figsize=(15, 3.6 * len(result.models)), layout="constrained")
    grid = figure.subplots(len(result.models), len(PANELS) + 1, squeeze=False)
    for row, (name, model) in zip(grid, result.models.items(), strict=True):
        for axes, panel in zip(row, PANELS, strict=False):
            _lines(axes, model.unpadded, panel, TARGETS[name][panel.gain])
            axes.set_title(f"{name}: {panel.title}", fontsize=10)
        _bars(row[-1], model)
        row[-1].set_title(f"{name}: ms per Beauty-like history, training", fontsize=10)
    figure.savefig(file, dpi=110)


def _lines(axes: "Axes", cells: list[Cell], panel: Panel, target: float) -> None:
    for items in sorted({cell.items for cell in cells}):
        line = [cell for cell in cells if cell.items == items]
        ratios = [cell.ratio for cell in line]
        axes.plot(ratios, [getattr(c.gain, panel.gain) for c in line], "o-", label=f"{items} items")
    axes.plot(
        [HEADLINE_RATIO], [target], "k_", markersize=18, label=f"target, {HEADLINE_ITEMS} items"
    )
    axes.set_xlabel("retention ratio")
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _bars(axes: "Axes", model: ModelResult) -> None:
    cells = [cell for cell in model.mixed if cell.padded_to == PAPERS_LENGTH]
    labels = [f"{cell.layout}, {cell.pruning}" for cell in cells]
    bars = axes.barh(labels, [cell.cost.train_ms for cell in cells])
    axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
    axes.margins(x=0.15)
    axes.invert_yaxis()
