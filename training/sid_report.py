"""What a set of semantic IDs looks like, in numbers."""

import numpy as np
from pydantic import BaseModel
from rich.table import Table

from training.quantizer import Quantized


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
    notes: list[str]


def sid_report(quantized: Quantized) -> SidReport:
    """Count buckets, used codes and the branching of the code tree."""
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
        notes=list(quantized.notes),
    )


def _branching(
    prefixes: np.ndarray[tuple[int, int], np.dtype[np.int32]],
) -> tuple[float, int, float]:
    """Mean and most children of a parent, and the share of items that are in an only child."""
    nodes, items = np.unique(prefixes, axis=0, return_counts=True)
    _, parent, children = np.unique(nodes[:, :-1], axis=0, return_inverse=True, return_counts=True)
    only_child = children[parent.reshape(-1)] == 1
    return float(children.mean()), int(children.max()), float(items[only_child].sum() / items.sum())


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
    table.caption = (
        f"{report.num_items:,} items, {report.num_sids:,} semantic IDs, "
        f"{report.unique_share:.1%} of items alone in theirs, {report.sharing_items:,} sharing, "
        f"largest bucket {report.largest_bucket}" + "".join(f"\n{note}" for note in report.notes)
    )
    return table
