"""What pruning saves, by count and by measurement: python -m benchmarks.pruning [--quick] [--json].

Two models read histories of equal length (no padding anywhere) and a mix of lengths as in Amazon
Beauty, padded to one length as the papers do, or without padding. Costs are those of a training
step without its optimizer, and of reading histories as serving does.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.explicit_layer import share_of_encode
from benchmarks.pruning_report import show, write_record
from benchmarks.pruning_result import (
    HEADLINE_ITEMS,
    HEADLINE_RATIO,
    Cell,
    Cost,
    MixedCell,
    ModelResult,
    Result,
)
from benchmarks.workload import BEAUTY_LENGTHS, SHAPES, Job, bucketed, job, with_rastp, with_ratio
from model.config import QwenConfig, T5Config
from training.cost import bytes_saved_for_backward, flops, interleaved_seconds, settle
from training.environment import environment

RANKING_ITEMS = 100
BATCH_ITEMS = 400  # of all rows of a batch: there are fewer rows when they are longer
ROWS_PER_LENGTH = 4  # of the mix, so that a batch of equal lengths is no single row


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Args:
        lengths: of histories, in items, without padding.
        padded_to: lengths, in items, that the mix of histories is padded to.
        ratios: retention ratios; 1 first.
        ranking_rows: batch sizes for which to measure what ranking tokens costs.
        budget_s: for one comparison.
        min_rounds: of one comparison, however long they take.
    """

    lengths: tuple[int, ...]
    padded_to: tuple[int, ...]
    ratios: tuple[float, ...]
    ranking_rows: tuple[int, ...]
    budget_s: float
    min_rounds: int


FULL = Effort(
    lengths=(10, 20, HEADLINE_ITEMS, 100),
    padded_to=(10, 20, 30, 50, 100),  # 30 is the papers' length
    ratios=(1.0, 2 / 3, 1 / 2, HEADLINE_RATIO, 1 / 4),
    ranking_rows=(1, 8),
    budget_s=15,
    min_rounds=5,
)
QUICK = Effort(
    lengths=(HEADLINE_ITEMS,),
    padded_to=(),
    ratios=(1.0, HEADLINE_RATIO),
    ranking_rows=(1,),
    budget_s=3,
    min_rounds=3,
)


@dataclass(frozen=True)
class Variant:
    """One way to compute: a pruning, and batches that are padded to a length (0 = not)."""

    config: T5Config | QwenConfig
    lengths: Sequence[Sequence[int]]
    pad_to: int = 0

    def job(self, device: str = "cpu") -> Job:
        """To run on a device."""
        return job(self.config, self.lengths, pad_to=self.pad_to, device=device)


def costs(variants: Sequence[Variant], effort: Effort) -> list[Cost]:
    """What one history costs by each variant, compared in interleaved rounds."""
    jobs = [variant.job() for variant in variants]
    encode, train = (  # reading first: a service never has the memory that training scatters
        interleaved_seconds(dict(enumerate(works)), effort.budget_s, effort.min_rounds)
        for works in ([each.encode for each in jobs], [each.train for each in jobs])
    )
    counted = [variant.job("meta") for variant in variants]
    histories = [sum(map(len, variant.lengths)) for variant in variants]
    return [
        Cost(
            train_ms=1e3 * train[place] / rows,
            encode_ms=1e3 * encode[place] / rows,
            activation_mb=bytes_saved_for_backward(each.loss, each.owned()) / 1e6 / rows,
            train_gflop=flops(counted[place].train) / 1e9 / rows,
            encode_gflop=flops(counted[place].encode) / 1e9 / rows,
        )
        for place, (rows, each) in enumerate(zip(histories, jobs, strict=True))
    ]


def unpadded(config: T5Config | QwenConfig, items: int, effort: Effort) -> list[Cell]:
    """Histories of one length, in batches and one at a time."""
    rows = max(1, BATCH_ITEMS // items)
    configs = [with_ratio(config, ratio) for ratio in effort.ratios]
    works = [Variant(each, [[items]]).job().encode for each in configs]
    alone = interleaved_seconds(dict(enumerate(works)), effort.budget_s / 2, effort.min_rounds)
    found = costs([Variant(each, [[items] * rows]) for each in configs], effort)
    return [
        Cell(
            items=items,
            ratio=ratio,
            rows=rows,
            cost=cost,
            gain=cost.against(found[0]),
            encode_alone_ms=1e3 * alone[place],
            encode_alone_speedup=round(alone[0] / alone[place], 3),
        )
        for place, (ratio, cost) in enumerate(zip(effort.ratios, found, strict=True))
    ]


def mixed(config: T5Config | QwenConfig, pad_to: int, effort: Effort) -> list[MixedCell]:
    """Histories as long as Beauty's, padded or in batches of equal lengths."""
    lengths = [min(length, pad_to) for length in BEAUTY_LENGTHS]
    variants = {
        ("padded", "none"): Variant(with_ratio(config, 1.0), [lengths], pad_to),
        ("padded", "rastp"): Variant(with_rastp(config), [lengths], pad_to),
    }
    for ratio in effort.ratios:
        pruning = "none" if ratio == 1 else f"sap {ratio:.2f}"
        batches = bucketed(lengths * ROWS_PER_LENGTH)
        variants["unpadded", pruning] = Variant(with_ratio(config, ratio), batches)
    found = costs(list(variants.values()), effort)
    return [
        MixedCell(pad_to, layout, pruning, cost, cost.against(found[0]))
        for (layout, pruning), cost in zip(variants, found, strict=True)
    ]


def measure(config: T5Config | QwenConfig, effort: Effort) -> ModelResult:
    """Everything about one model."""
    shares = {
        rows: round(share_of_encode(config, RANKING_ITEMS, rows, effort.budget_s), 4)
        for rows in effort.ranking_rows
    }
    return ModelResult(
        unpadded=[cell for items in effort.lengths for cell in unpadded(config, items, effort)],
        mixed=[cell for pad_to in effort.padded_to for cell in mixed(config, pad_to, effort)],
        ranking_share=shares,
        config=config.model_dump(mode="json"),
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only what has targets, in less than 60 s.")
    ] = False,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write .json, .md and .png into this folder.")
    ] = None,
) -> None:
    """Measure what pruning saves, on one thread."""
    settle()
    found_in = environment("benchmarks.pruning", sys.argv[1:])
    effort = QUICK if quick else FULL
    result = Result({name: measure(SHAPES[name], effort) for name in SHAPES}, quick, found_in)
    if record_in is not None:
        write_record(result, record_in)
    if as_json:
        print(json.dumps(result.to_json(), indent=1))
    else:
        show(result)


if __name__ == "__main__":
    app()
