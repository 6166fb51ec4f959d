"""The report on semantic IDs."""

import io

import numpy as np
import pytest
from rich.console import Console

from training.quantizer import Quantized
from training.sid_report import render_sid_report, sid_report

CODES = np.array([[0, 0], [0, 0], [0, 1], [2, 1]], dtype=np.int32)


def test_the_report_counts() -> None:
    """Buckets, used codes, children, and items without a choice."""
    report = sid_report(Quantized(CODES, (4, 2), []))

    assert (report.num_items, report.num_sids, report.sharing_items) == (4, 3, 2)
    assert report.unique_share == 0.5
    assert report.largest_bucket == 2
    assert report.codes_used == [2, 2]
    assert report.largest_code_share == [0.75, 0.5]
    assert report.mean_children == [2, 1.5]
    assert report.max_children == [2, 2]
    assert report.forced_share == [0, 0.25]


def test_the_report_is_shown() -> None:
    """One column per level, totals and notes below."""
    report = sid_report(Quantized(CODES, (4, 2), [], notes=("level 0: clamped",)))
    console = Console(file=io.StringIO(), width=120)

    console.print(render_sid_report(report))

    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "2 of 4" in text
    assert "4 items, 3 semantic IDs" in text
    assert "level 0: clamped" in text


def test_one_level_is_a_tree_too() -> None:
    """All codes are children of the root."""
    assert sid_report(Quantized(CODES[:, :1], (4,), [])).mean_children == [pytest.approx(2)]
