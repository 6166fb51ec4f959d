"""Rehearsal: run an engine in every shape before anybody waits for it, and note what each costs.

A *scene* is a batch of equal shape: so many rows, and the shape.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from model.queries import Query, Shape

BUDGET_S = 3.0
"""After this long only what must be run is run, and once."""
WIDE = 3
"""A wide beam, as a multiple of the standard one."""


@dataclass(frozen=True)
class Timing:
    """How long a batch of equal shape took."""

    shape: Shape
    rows: int
    seconds: float


Scene = tuple[Shape, int]


def scenes(
    standard: Shape,
    lengths: Sequence[int],
    ratios: Sequence[float],
    max_rows: int,
    items_at_once: int,
) -> list[Scene]:
    """What to run: each length by each ratio, alone; then large batches and wide beams.

    Args:
        standard: the longest history, the beam and the ratio of a query that asks for neither.
        lengths: of padded histories, in items.
        ratios: of the engine.
        max_rows: of a batch.
        items_at_once: of a batch, padding counted.
    """
    alone = [
        (replace(standard, num_items=length, retention_ratio=ratio), 1)
        for length in lengths
        for ratio in ratios
    ]
    middle = replace(standard, num_items=lengths[len(lengths) // 2])
    wide = replace(standard, beam_width=WIDE * standard.beam_width)
    both = replace(wide, num_items=middle.num_items)
    bold = replace(standard, retention_ratio=ratios[0])
    together: dict[Scene, None] = {}
    for share in (1, 4):
        for shape in (standard, middle, wide, both, bold):
            fitting = max(1, items_at_once // shape.num_items)
            together[shape, max(1, min(max_rows, fitting) // share)] = None
    return [*alone, *together, (wide, 1)]


def rehearse(
    run: Callable[[Sequence[Query]], object],
    forget: Callable[[], None],
    script: Sequence[Scene],
    num_items: int,
    budget_s: float = BUDGET_S,
) -> list[Timing]:
    """Run every scene; one of several rows twice, of which the faster counts, while there is time.

    The first scene of several rows is run in any case.

    Args:
        run: answers queries.
        forget: what it remembers of the histories it read.
        script: of `scenes`.
        num_items: in the catalog; histories are made of these.
        budget_s: for all scenes together.
    """
    ends_s = time.perf_counter() + budget_s
    timings: list[Timing] = []
    batch_was_run = False
    run([_query(script[0][0], 0, num_items)])  # what is slow the first time only
    for shape, rows in script:
        is_over = time.perf_counter() > ends_s
        if is_over and rows > 1 and batch_was_run:
            continue
        queries = [_query(shape, row, num_items) for row in range(rows)]
        seconds = _timed(run, forget, queries)
        if rows > 1:
            batch_was_run = True
            if not is_over:
                seconds = min(seconds, _timed(run, forget, queries))
        timings.append(Timing(shape, rows, seconds))
    return timings


def _query(shape: Shape, row: int, num_items: int) -> Query:
    """A query of this shape; rows differ, as users do."""
    history = [(row + place) % num_items for place in range(shape.num_items)]
    return Query(
        history,
        beam_width=shape.beam_width,
        retention_ratio=shape.retention_ratio,
        exclude_seen=False,
    )


def _timed(
    run: Callable[[Sequence[Query]], object],
    forget: Callable[[], None],
    queries: Sequence[Query],
) -> float:
    forget()
    began_s = time.perf_counter()
    run(queries)
    return time.perf_counter() - began_s
