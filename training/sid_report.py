"""What a set of semantic IDs looks like, in numbers."""

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel
from rich.table import Table

from model.placement import Codes
from training.quantizer import Quantized

TOO_COMMON = 0.9
"""Categories say nothing where one of them holds this share of the items."""


class SidReport(BaseModel, frozen=True, extra="forbid"):
    """Numbers that tell a good code tree from a bad one, per level where they are lists."""

    num_items: int
    num_sids: int
    """Distinct semantic IDs."""
    unique_share: float
    """Share of items that have their semantic ID to themselves."""
    sharing_items: int
    """Items that share theirs."""
    largest_bucket: int
    codebook_sizes: list[int]
    codes_used: list[int]
    largest_code_share: list[float]
    """Share of all items under the most used code of the level."""
    mean_children: list[float]
    """Continuations of a prefix that has some, at each level."""
    max_children: list[int]
    forced_share: list[float]
    """Share of items whose code at the level is the only one its prefix allows."""
    category_position: int | None
    """Which of an item's categories, from 0, `category_purity` looks at; None = none tells much."""
    category_share: float | None
    """Share of the largest category: what purity is without any semantic IDs."""
    category_purity: list[float | None]
    """Share of items of the category that most items of their prefix have, up to each level. Items
    alone with a prefix, or without a category, do not count; None where no other is left."""
    notes: list[str]


def sid_report(quantized: Quantized, categories: pl.Series | None = None) -> SidReport:
    """Count buckets, used codes and the branching of the code tree.

    Args:
        quantized: the semantic IDs.
        categories: a list of text per item, general to special; None = unknown.
    """
    position, labels = _telling_category(categories)
    codes, sizes = quantized.codes, quantized.codebook_sizes
    _, buckets = np.unique(codes, axis=0, return_counts=True)
    usage = [np.bincount(codes[:, level], minlength=size) for level, size in enumerate(sizes)]
    tree = [_branching(codes[:, : level + 1]) for level in range(len(sizes))]
    return SidReport(
        num_items=len(codes),
        num_sids=len(buckets),
        unique_share=float((buckets == 1).sum() / len(codes)),
        sharing_items=int(buckets[buckets > 1].sum()),
        largest_bucket=int(buckets.max()),
        codebook_sizes=list(sizes),
        codes_used=[int((counts > 0).sum()) for counts in usage],
        largest_code_share=[float(counts.max() / len(codes)) for counts in usage],
        mean_children=[mean for mean, _, _ in tree],
        max_children=[most for _, most, _ in tree],
        forced_share=[forced for _, _, forced in tree],
        category_position=position,
        category_share=None if labels is None else _largest_share(labels),
        category_purity=[
            None if labels is None else _purity(codes[:, : level + 1], labels)
            for level in range(len(sizes))
        ],
        notes=list(quantized.notes),
    )


def children_per_node(prefixes: Codes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(num_parents,) children of each parent of the prefixes, (num_nodes,) each prefix's parent."""
    nodes = np.unique(prefixes, axis=0)
    _, parent, children = np.unique(nodes[:, :-1], axis=0, return_inverse=True, return_counts=True)
    return children, parent.reshape(-1)


def _branching(prefixes: Codes) -> tuple[float, int, float]:
    """Mean and most children of a parent, and the share of items that are in an only child."""
    _, items = np.unique(prefixes, axis=0, return_counts=True)
    children, parent = children_per_node(prefixes)
    only_child = children[parent] == 1
    return float(children.mean()), int(children.max()), float(items[only_child].sum() / items.sum())


def _telling_category(categories: pl.Series | None) -> tuple[int | None, pl.Series | None]:
    """The first place in the lists where no single category holds nearly all items, and its text.

    In a shop's data the first one often names the department that all items are from.
    """
    lists = pl.Series([], dtype=pl.List(pl.String)) if categories is None else categories
    for position in range(int(lists.list.len().to_numpy().max(initial=0))):
        labels = lists.list.get(position, null_on_oob=True)
        if _largest_share(labels) < TOO_COMMON:
            return position, labels
    return None, None


def _largest_share(labels: pl.Series) -> float:
    counts = labels.drop_nulls().value_counts()["count"].to_numpy()
    return float(counts.max() / counts.sum())


def _purity(prefixes: Codes, labels: pl.Series) -> float | None:
    _, node = np.unique(prefixes, axis=0, return_inverse=True)
    named = pl.DataFrame({"node": node.reshape(-1), "label": labels}).drop_nulls()
    counts = named.group_by("node", "label").len().group_by("node")
    nodes = counts.agg(pl.col("len").max().alias("majority"), pl.col("len").sum().alias("all"))
    shared = nodes.filter(pl.col("all") > 1).sum().to_dicts()[0]
    return float(shared["majority"] / shared["all"]) if shared["all"] else None


def render_sid_report(report: SidReport) -> Table:
    """The report as a table for the terminal: one column per level, then the totals."""
    table = Table(title="Semantic IDs")
    table.add_column("level", style="bold")
    levels = range(len(report.codebook_sizes))
    for level in levels:
        table.add_column(str(level), justify="right")
    sizes = zip(report.codes_used, report.codebook_sizes, strict=True)
    table.add_row("codes used", *(f"{used} of {size}" for used, size in sizes))
    table.add_row("largest code holds", *(f"{share:.1%}" for share in report.largest_code_share))
    table.add_row("mean children", *(f"{mean:.1f}" for mean in report.mean_children))
    table.add_row("most children", *(f"{most}" for most in report.max_children))
    table.add_row("items in an only child", *(f"{share:.1%}" for share in report.forced_share))
    if report.category_share is not None:
        shares = ("-" if share is None else f"{share:.1%}" for share in report.category_purity)
        table.add_row(f"same category (largest {report.category_share:.1%})", *shares)
    table.caption = (
        f"{report.num_items:,} items, {report.num_sids:,} semantic IDs, "
        f"{report.unique_share:.1%} of items alone in theirs, {report.sharing_items:,} sharing, "
        f"largest bucket {report.largest_bucket}" + "".join(f"\n{note}" for note in report.notes)
    )
    return table
