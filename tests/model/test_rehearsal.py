"""Rehearsal: which batches are run before anybody comes, and how often."""

from collections.abc import Sequence

from model.queries import Query, Shape
from model.rehearsal import rehearse, scenes

LENGTHS, RATIOS = (1, 4, 12), (0.25, 1.0)
STANDARD = Shape(num_items=12, beam_width=20, retention_ratio=1.0)
SCRIPT = scenes(STANDARD, LENGTHS, RATIOS, max_rows=8, items_at_once=60)


def run_with(budget_s: float) -> tuple[list[int], int]:
    """The sizes of the batches that are run, and how many timings come of them."""
    sizes: list[int] = []

    def run(queries: Sequence[Query]) -> None:
        sizes.append(len(queries))

    timings = rehearse(run, lambda: None, SCRIPT, num_items=30, budget_s=budget_s)
    return sizes, len(timings)


def test_batches_keep_within_what_fits_into_one() -> None:
    """Rows and padded items, as the service limits them."""
    assert max(rows for _, rows in SCRIPT) == 8
    assert all(rows * shape.num_items <= 60 for shape, rows in SCRIPT)
    assert {(shape.num_items, shape.retention_ratio) for shape, _ in SCRIPT} >= {
        (length, ratio) for length in LENGTHS for ratio in RATIOS
    }


def test_batches_of_one_row_are_none() -> None:
    """A service may be told to compute alone."""
    script = scenes(STANDARD, LENGTHS, RATIOS, max_rows=1, items_at_once=60)

    assert {rows for _, rows in script} == {1}


def test_without_time_every_shape_still_runs_and_one_batch() -> None:
    """A slow model is ready as soon as it can be, and its batches' cost is known all the same."""
    sizes, num_timings = run_with(budget_s=0.0)

    alone = [rows for _, rows in SCRIPT if rows == 1]
    assert len(alone) > len(LENGTHS) * len(RATIOS)
    assert sorted(sizes) == [1, *alone, 5]
    assert num_timings == len(sizes) - 1


def test_with_time_batches_run_twice() -> None:
    """The first time of a shape is not what it costs."""
    sizes, _ = run_with(budget_s=60.0)

    batches = [size for size in sizes if size > 1]
    assert batches[::2] == batches[1::2]
    assert len(batches) > 4
