"""What the decoding benchmark found, as it is printed and recorded."""

from dataclasses import asdict, dataclass

from benchmarks.decode_workload import Speed
from benchmarks.roofline import Roofline
from training.cost import Timing
from training.environment import Environment

TARGETS = {"b1_k10": 5.0, "b1_k50": 10.0, "b8_k10": 6.0, "b8_k50": 12.0, "all_on": 15.0}
"""How many times faster than transformers, by rows and beams; all_on with every setting."""


def cell_name(rows: int, beams: int) -> str:
    """Such as b1_k10."""
    return f"b{rows}_k{beams}"


@dataclass(frozen=True)
class Comparison:
    """Our search beside a peer's.

    Args:
        rows: histories in the batch.
        beams: of each.
        items: of each history.
        ours: how long our search takes.
        theirs: how long the peer's takes.
        score_difference: the largest between the scores of the same semantic ID, when both
            computed the same; checked before anything was timed.
    """

    rows: int
    beams: int
    items: int
    ours: Timing
    theirs: Timing
    score_difference: float

    @property
    def speedup(self) -> float:
        """By least processor time."""
        return round(self.theirs.least_s / self.ours.least_s, 3)

    @property
    def name(self) -> str:
        """Such as b1_k10."""
        return cell_name(self.rows, self.beams)


@dataclass(frozen=True)
class AllOn:
    """Long histories with every setting that saves time, beside transformers without any.

    Args:
        speed: the settings.
        comparisons: by rows and beams; the first is the headline.
        in_bfloat16: the headline, computed by torch in bfloat16.
        drift: by what was changed, the share of the best ten that our search finds in float32
            without pruning.
    """

    speed: Speed
    comparisons: list[Comparison]
    in_bfloat16: list[Comparison]
    drift: dict[str, float]


@dataclass(frozen=True)
class Result:
    """Everything; a peer that is not installed has None, and `skipped` says what would bring it.

    `kernels` is what computes our blocks in float32: see `model.speed.kernels_of`.
    """

    vs_transformers: list[Comparison] | None
    all_on: AllOn | None
    vs_cornac: list[Comparison] | None
    roofline: dict[str, Roofline]
    skipped: dict[str, str]
    peers: dict[str, str]
    kernels: str
    left_out: str
    quick: bool
    environment: Environment

    @property
    def speedups(self) -> dict[str, float]:
        """Over transformers, by the names that have targets."""
        found = {each.name: each.speedup for each in self.vs_transformers or []}
        return found | ({"all_on": self.all_on.comparisons[0].speedup} if self.all_on else {})

    def reached(self) -> dict[str, bool]:
        """Every target of what was measured."""
        return {
            name: value >= TARGETS[name] for name, value in self.speedups.items() if name in TARGETS
        }

    def to_json(self) -> dict[str, object]:
        """One object."""
        theirs = [*(self.vs_transformers or []), *(self.all_on.comparisons if self.all_on else [])]
        return {
            "benchmark": "decode",
            "ranking_equal": None if self.vs_transformers is None else True,
            "vs_transformers": None if self.vs_transformers is None else self.speedups,
            "vs_cornac": None
            if self.vs_cornac is None
            else {each.name: each.speedup for each in self.vs_cornac},
            "roofline": {name: asdict(each) for name, each in self.roofline.items()},
            "drift": self.all_on.drift if self.all_on else None,
            "all_on": asdict(self.all_on.speed) if self.all_on else None,
            "all_on_in_bfloat16": self.all_on.in_bfloat16[0].speedup if self.all_on else None,
            "targets": TARGETS,
            "reached": self.reached(),
            "transformers_cells": [asdict(each) | {"speedup": each.speedup} for each in theirs],
            "cornac_cells": [
                asdict(each) | {"speedup": each.speedup} for each in self.vs_cornac or []
            ],
            "skipped": self.skipped,
            "peers": self.peers,
            "kernels": self.kernels,
            "quick": self.quick,
            "left_out": self.left_out,
            "environment": self.environment,
        }
