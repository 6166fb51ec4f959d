"""What the pruning benchmark found, as it is printed and recorded; all costs are per history."""

from dataclasses import asdict, dataclass

from training.environment import Environment

HEADLINE_ITEMS, HEADLINE_RATIO = 50, 1 / 3
LIMIT = 0.10  # of the time to read histories: what ranking their tokens may cost

TARGETS: dict[str, dict[str, float]] = {
    "t5": {"train_speedup": 1.30, "activation_saving": 0.25, "encode_speedup": 1.40},
    "qwen24": {"train_speedup": 1.50, "activation_saving": 0.45, "encode_speedup": 1.40},
}
"""To reach at the headline's length and ratio, against no pruning and no padding."""


@dataclass(frozen=True)
class Cost:
    """Milliseconds, megabytes, and 10^9 floating-point operations."""

    train_ms: float
    encode_ms: float
    activation_mb: float
    train_gflop: float
    encode_gflop: float

    def against(self, baseline: "Cost") -> "Gain":
        """What it gains over a baseline."""
        return Gain(
            train_speedup=round(baseline.train_ms / self.train_ms, 3),
            encode_speedup=round(baseline.encode_ms / self.encode_ms, 3),
            activation_saving=round(1 - self.activation_mb / baseline.activation_mb, 4),
            train_flop_ratio=round(baseline.train_gflop / self.train_gflop, 3),
            encode_flop_ratio=round(baseline.encode_gflop / self.encode_gflop, 3),
        )


@dataclass(frozen=True)
class Gain:
    """Speed-ups as measured, the share of memory saved, and speed-ups by arithmetic alone."""

    train_speedup: float
    encode_speedup: float
    activation_saving: float
    train_flop_ratio: float
    encode_flop_ratio: float


@dataclass(frozen=True)
class Cell:
    """Histories of one length, without padding; the gain is over ratio 1."""

    items: int
    ratio: float
    rows: int
    cost: Cost
    gain: Gain
    encode_alone_ms: float
    encode_alone_speedup: float


@dataclass(frozen=True)
class MixedCell:
    """Histories as long as Beauty's; the gain is over no pruning, padded to one length."""

    padded_to: int
    layout: str
    pruning: str
    cost: Cost
    gain: Gain


@dataclass(frozen=True)
class ModelResult:
    """One model.

    Args:
        unpadded: by length, then ratio.
        mixed: by the length that is padded to; empty after a quick run.
        ranking_share: by rows in the batch, the time that ranking tokens adds to reading
            histories of 100 items.
        config: of the model.
    """

    unpadded: list[Cell]
    mixed: list[MixedCell]
    ranking_share: dict[int, float]
    config: dict[str, object]

    @property
    def headline(self) -> dict[str, float]:
        """The gains that have targets."""
        gain = next(
            cell.gain
            for cell in self.unpadded
            if (cell.items, cell.ratio) == (HEADLINE_ITEMS, HEADLINE_RATIO)
        )
        return {
            "train_speedup": gain.train_speedup,
            "activation_saving": gain.activation_saving,
            "encode_speedup": gain.encode_speedup,
        }


@dataclass(frozen=True)
class Verdict:
    """One target and what was found."""

    model: str
    what: str
    target: float
    found: float
    reached: bool

    @property
    def answer(self) -> str:
        """For people."""
        return "yes" if self.reached else "NO"


@dataclass(frozen=True)
class Result:
    """Everything."""

    models: dict[str, ModelResult]
    quick: bool
    environment: Environment

    def verdicts(self) -> list[Verdict]:
        """Every target; the ranking's share must stay below its own."""
        found = [
            Verdict(name, what, target, value, reached=value >= target)
            for name, result in self.models.items()
            for what, target in TARGETS[name].items()
            for value in [result.headline[what]]
        ]
        return found + [
            Verdict(name, f"ranking_share_of_{rows}", LIMIT, share, reached=share < LIMIT)
            for name, result in self.models.items()
            for rows, share in result.ranking_share.items()
        ]

    def to_json(self) -> dict[str, object]:
        """One object; each model's headline stands beside its details."""
        models: dict[str, object] = {
            name: model.headline | asdict(model) for name, model in self.models.items()
        }
        return models | {
            "benchmark": "pruning",
            "quick": self.quick,
            "headline": {"items": HEADLINE_ITEMS, "ratio": HEADLINE_RATIO, "against": "unpadded"},
            "verdicts": [asdict(verdict) for verdict in self.verdicts()],
            "environment": self.environment,
        }
