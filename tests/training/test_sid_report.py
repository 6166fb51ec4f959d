"""The report on semantic IDs."""

import io
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from training.quantizer import Quantized
from training.sid_plot import plot_sids
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


PATHS = pl.Series([["shop", "a"], ["shop", "b"], ["shop", "a"], ["shop", "b"]])


def test_purity_counts_the_majority_of_a_prefix() -> None:
    """At the first place where categories differ; items alone with a prefix do not count."""
    report = sid_report(Quantized(CODES, (4, 2), []), PATHS)

    assert (report.category_position, report.category_share) == (1, 0.5)
    assert report.category_purity == [pytest.approx(2 / 3), pytest.approx(1 / 2)]


def test_items_without_a_category_do_not_count() -> None:
    """Here no two items with one share a prefix."""
    paths = pl.Series([["a"], [], ["b"], ["c"]])

    report = sid_report(Quantized(CODES, (4, 2), []), paths)

    assert report.category_position == 0
    assert report.category_share == pytest.approx(1 / 3)
    assert report.category_purity == [0.5, None]


@pytest.mark.parametrize("paths", [None, pl.Series([["shop"]] * 4), pl.Series([[""][:0]] * 4)])
def test_categories_that_tell_nothing_are_left_out(paths: pl.Series | None) -> None:
    """None at all, or one for all items."""
    report = sid_report(Quantized(CODES, (4, 2), []), paths)

    assert report.category_position is None
    assert report.category_share is None
    assert report.category_purity == [None, None]


def test_purity_is_shown() -> None:
    """Beside the share of the largest category; a dash where no item shares a prefix."""
    console = Console(file=io.StringIO(), width=120)

    console.print(render_sid_report(sid_report(Quantized(CODES[1:], (4, 2), []), PATHS[1:])))

    assert isinstance(console.file, io.StringIO)
    line = next(row for row in console.file.getvalue().splitlines() if "same category" in row)
    assert "largest 66.7%" in line
    assert "50.0%" in line
    assert "-" in line


@pytest.mark.parametrize("paths", [None, PATHS])
def test_the_report_is_drawn(tmp_path: Path, paths: pl.Series | None) -> None:
    """As a PNG wider than high, wider still with a panel on categories."""
    found = Quantized(CODES, (4, 2), [])

    plot_sids(found, sid_report(found, paths), tmp_path / "report.part")

    image = (tmp_path / "report.part").read_bytes()
    width, height = struct.unpack(">II", image[16:24])
    assert image[1:4] == b"PNG"
    assert width / height > (3 if paths is None else 4)
