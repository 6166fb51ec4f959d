"""An experiment's recall as a picture: bars for one axis, a line per label for two."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.experiment_rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_rows(recipe: str, rows: Sequence[Row], axes_names: Sequence[str], file: Path) -> None:
    """Draw recall@10 by variant into `file`, a PNG; bars on points are deviations over seeds."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, and only this picture needs it

    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.subplots()
    if len(axes_names) == 1 and all(row.is_trained_ratio for row in rows):
        _points(axes, {"": {row.variant[0]: row for row in rows}}, "")
    else:
        _points(axes, series(rows), "o-")
        axes.legend(fontsize=8, title=" / ".join(axes_names[:-1]) or None)
    axes.set(ylabel="recall@10", title=recipe)
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110, format="png")


def series(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """By all labels but the last, by the last; by the ratio at serving where there are several."""
    if any(not row.is_trained_ratio for row in rows):
        rows = sorted(rows, key=lambda row: -row.retention_ratio)
        labelled = [
            (" / ".join(row.variant), f"served at {row.retention_ratio:.2f}") for row in rows
        ]
    else:
        labelled = [(" / ".join(row.variant[:-1]), row.variant[-1]) for row in rows]
    found: dict[str, dict[str, Row]] = {}
    for (name, place), row in zip(labelled, rows, strict=True):
        found.setdefault(name, {})[place] = row
    return found


def _points(axes: "Axes", series: dict[str, dict[str, Row]], style: str) -> None:
    for name, by_place in series.items():
        values = [row.recall_at_10 for row in by_place.values()]
        errors = [row.recall_at_10_sd or 0.0 for row in by_place.values()]
        places = list(by_place)
        if style:
            axes.errorbar(places, values, errors, fmt=style, capsize=3, label=name)
        else:
            axes.bar_label(axes.bar(places, values, yerr=errors, capsize=3), fmt="%.4f", fontsize=8)
