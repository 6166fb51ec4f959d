"""A set of semantic IDs as one picture: children, code usage, bucket sizes, purity by category."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.quantizer import Quantized
from training.sid_report import SidReport, children_per_node

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_sids(quantized: Quantized, report: SidReport, file: Path) -> None:
    """Draw what `report` summarises into `file`, a PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, and only this picture needs it

    has_purity = report.category_share is not None
    figure = Figure(figsize=(15 if has_purity else 11.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 4 if has_purity else 3)
    _children(panels[0], quantized)
    _usage(panels[1], quantized)
    _buckets(panels[2], quantized)
    if has_purity:
        _purity(panels[3], report)
    for axes in panels:
        axes.grid(alpha=0.3)
    figure.suptitle(f"{report.num_items:,} items, {report.num_sids:,} semantic IDs", fontsize=11)
    figure.savefig(file, dpi=110, format="png")


def _children(axes: "Axes", quantized: Quantized) -> None:
    """For each level, how many prefixes have at least so many continuations."""
    for level in range(quantized.codes.shape[1]):
        children, _ = children_per_node(quantized.codes[:, : level + 1])
        values, counts = np.unique(children, return_counts=True)
        at_least = counts[::-1].cumsum()[::-1]
        axes.plot(values, at_least, ".-", label=f"level {level}")
    axes.set(xscale="log", yscale="log", xlabel="children", ylabel="prefixes with at least as many")
    axes.set_title("Children of a prefix", fontsize=10)
    axes.legend(fontsize=8)


def _usage(axes: "Axes", quantized: Quantized) -> None:
    """For each level, the items under each code, most used code first."""
    for level, size in enumerate(quantized.codebook_sizes):
        counts = np.sort(np.bincount(quantized.codes[:, level], minlength=size))[::-1]
        axes.plot(np.arange(1, size + 1), counts, ".-", markersize=3, label=f"level {level}")
    axes.set(yscale="symlog", ylim=(0, None), xlabel="code, most used first", ylabel="items")
    axes.set_title("Code usage", fontsize=10)
    axes.legend(fontsize=8)


def _buckets(axes: "Axes", quantized: Quantized) -> None:
    """How many semantic IDs stand for 1, 2, 3, ... items."""
    _, sizes = np.unique(quantized.codes, axis=0, return_counts=True)
    values, counts = np.unique(sizes, return_counts=True)
    bars = axes.bar([str(value) for value in values], counts)
    if len(values) <= 12:
        axes.bar_label(bars, fontsize=8)
    axes.set(yscale="log", ylim=(0.5, 3 * counts.max()), xlabel="items", ylabel="semantic IDs")
    axes.set_title("Items of a semantic ID", fontsize=10)


def _purity(axes: "Axes", report: SidReport) -> None:
    """Per level, the share of items in their prefix's majority category."""
    assert report.category_share is not None
    levels = [n for n, share in enumerate(report.category_purity) if share is not None]
    purity = [share for share in report.category_purity if share is not None]
    bars = axes.bar([f"level {level}" for level in levels], purity)
    axes.bar_label(bars, [f"{share:.0%}" for share in purity], fontsize=8)
    axes.axhline(report.category_share, color="black", linestyle="--", label="largest category")
    axes.legend(fontsize=8, loc="lower right")
    axes.set(ylim=(0, 1.1), ylabel="share of items")
    axes.set_title("Same category as the prefix's majority", fontsize=10)
