"""Our constrained beam search beside its peers: python -m benchmarks.decode [--quick] [--json].

The same weights, catalog and histories, in one process on one thread, in interleaved rounds. First
every peer must find what our search finds, in the same order; only then anything is timed.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.decode_peers import Cornac, PeerMissingError, Transformers
from benchmarks.decode_report import show, write_record
from benchmarks.decode_result import AllOn, Comparison, Result, cell_name
from benchmarks.decode_workload import Case, Searcher, Speed, check_same, new_case, ours, overlap
from benchmarks.roofline import Roofline, roofline
from model.kernels.library import find
from model.speed import kernels_of
from training.cost import interleaved, settle
from training.environment import environment

LONG_ITEMS = 100
BEST = 10  # of a ranking, for drift
PLAIN = Speed()
FAST = Speed(ratio=1 / 3)


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Args:
        cells: rows and beams to compare at.
        long_cells: of the long histories; the headline first.
        cornac_beams: for one history.
        roofline_cells: rows and beams.
        drift_rows: histories to compare rankings of.
        budget_s: for one comparison.
        min_rounds: of one comparison, however long they take.
        left_out: what the full measurement has beyond this.
    """

    cells: Sequence[tuple[int, int]]
    long_cells: Sequence[tuple[int, int]]
    cornac_beams: Sequence[int]
    roofline_cells: Sequence[tuple[int, int]]
    drift_rows: int
    budget_s: float
    min_rounds: int
    left_out: str = ""


CELLS = [(rows, beams) for rows in (1, 8) for beams in (10, 50)]
FULL = Effort(
    cells=CELLS,
    long_cells=[(1, 50), (1, 10), (8, 10), (8, 50)],
    cornac_beams=(10, 50),
    roofline_cells=[*CELLS, (32, 10), (32, 50)],
    drift_rows=64,
    budget_s=20,
    min_rounds=7,
)
QUICK = Effort(
    cells=CELLS,
    long_cells=[(1, 50)],
    cornac_beams=(10,),
    roofline_cells=[(1, 10), (8, 10)],
    drift_rows=8,
    budget_s=0,
    min_rounds=2,
    left_out=(
        "2 rounds a comparison instead of 7 and more; of all settings on, all but 1 history with "
        "50 beams, and drift over 8 histories instead of 64; cornac with 50 beams; the rooflines "
        "with 50 beams and of 32 histories"
    ),
)
MIDDLE = replace(
    FULL,
    long_cells=[(1, 50), (1, 10), (8, 10)],
    drift_rows=32,
    budget_s=2,
    min_rounds=3,
    left_out="3 rounds a comparison and more instead of 7 and more; drift over 32 histories "
    "instead of 64; all settings on for 8 histories with 50 beams",
)


def compare(
    case: Case, peer: Searcher, cells: Sequence[tuple[int, int]], speed: Speed, effort: Effort
) -> list[Comparison]:
    """A peer beside our search at a speed; first, our plain search must find what it finds.

    Raises:
        RankingError: it does not.
    """
    plain, mine = ours(case, PLAIN), ours(case, speed)
    batches = {rows: case.batch(rows) for rows, _ in cells}
    differences = [
        check_same(plain.ranking(batches[rows], beams), peer.ranking(batches[rows], beams))
        for rows, beams in cells
    ]
    found = []
    for (rows, beams), difference in zip(cells, differences, strict=True):
        batch = batches[rows]
        works = {
            "ours": lambda batch=batch, beams=beams: mine.search(batch, beams),
            "theirs": lambda batch=batch, beams=beams: peer.search(batch, beams),
        }
        timing = interleaved(works, effort.budget_s, effort.min_rounds)
        items = case.model.config.max_history_items
        found.append(Comparison(rows, beams, items, timing["ours"], timing["theirs"], difference))
    return found


def drift(case: Case, speed: Speed, rows: int) -> dict[str, float]:
    """Share of our plain search's best that remains: with each setting alone, and with all."""
    batch = case.batch(rows, seed=1)
    expected = ours(case, PLAIN).ranking(batch, BEST)
    settings = {
        "bfloat16": replace(speed, dtype="bfloat16", ratio=1.0),
        f"ratio {speed.ratio:.2f}": replace(speed, dtype="float32"),
        "all_on": speed,
    }
    return {
        name: round(overlap(ours(case, changed).ranking(batch, BEST), expected, BEST), 4)
        for name, changed in settings.items()
    }


def all_on(case: Case, speed: Speed, effort: Effort) -> AllOn:
    """Long histories with every setting that saves time; the headline in bfloat16 as well."""
    peer = Transformers.of(case)
    found = compare(case, peer, effort.long_cells, speed, effort)
    rounded = replace(speed, dtype="bfloat16", compiled=False)
    in_bfloat16 = compare(case, peer, effort.long_cells[:1], rounded, effort)
    return AllOn(speed, found, in_bfloat16, drift(case, speed, effort.drift_rows))


def rooflines(case: Case, effort: Effort) -> dict[str, Roofline]:
    """Our plain search beside its products; torch's form of it makes the same passes."""
    mine, by_torch = ours(case, PLAIN), ours(case, replace(PLAIN, own_kernels=False))
    by_torch.model.step_cost = mine.model.step_cost
    found = {}
    for rows, beams in effort.roofline_cells:
        batch = case.batch(rows)
        found[cell_name(rows, beams)] = roofline(
            lambda batch=batch, beams=beams: mine.search(batch, beams),  # type: ignore[misc]
            effort.budget_s / 2,
            effort.min_rounds,
            by_torch=lambda batch=batch, beams=beams: by_torch.search(batch, beams),  # type: ignore[misc]
            kernels=find(),
        )
    return found


def measure(short: Case, long: Case, speed: Speed, effort: Effort, arguments: list[str]) -> Result:
    """Everything; peers that are not installed are left out."""
    found_in = environment("benchmarks.decode", arguments)
    skipped: dict[str, str] = {}
    theirs = on = cornac = None
    try:
        theirs = compare(short, Transformers.of(short), effort.cells, PLAIN, effort)
        on = all_on(long, speed, effort)
    except PeerMissingError as error:
        skipped["transformers"] = str(error)
    try:
        single = [(1, beams) for beams in effort.cornac_beams]
        cornac = compare(short, Cornac.of(short), single, PLAIN, effort)
    except PeerMissingError as error:
        skipped["cornac"] = str(error)
    return Result(
        vs_transformers=theirs,
        all_on=on,
        vs_cornac=cornac,
        roofline=rooflines(short, effort),
        skipped=skipped,
        peers=_versions(),
        kernels=kernels_of(ours(short, PLAIN).model),
        left_out=effort.left_out,
        quick=effort is QUICK,
        environment=found_in,
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in ("transformers", "cornac"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="In less than 60 s.")] = False,
    middle: Annotated[bool, typer.Option("--middle", help="All sizes, fewer rounds.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="all_on in bfloat16 by torch.compile: takes minutes.")
    ] = False,
    own_allocator: Annotated[
        bool, typer.Option(help="Keep freed memory, as our service does; for peers as well.")
    ] = True,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write .json and .md into this folder.")
    ] = None,
) -> None:
    """Compare constrained decoding, on one thread."""
    if own_allocator:
        settle()
    torch.set_num_threads(1)
    effort = QUICK if quick else MIDDLE if middle else FULL
    speed = replace(FAST, dtype="bfloat16", compiled=True) if compiled else FAST
    result = measure(
        new_case(), new_case(max_history_items=LONG_ITEMS), speed, effort, sys.argv[1:]
    )
    if record_in is not None:
        write_record(result, record_in)
    if as_json:
        print(json.dumps(result.to_json(), indent=1))
    else:
        show(result)


if __name__ == "__main__":
    app()
