"""What the benchmark of the index found, as it is printed and recorded."""

from dataclasses import asdict, dataclass

from training.environment import Environment

OURS, BY_LEVEL, STATIC = "ours", "ours by level", "STATIC"
COMPILED = "ours compiled"
NO_CATALOG, SOFTMAX, MEMORY = "no catalog", "log softmax", "keys and values"
HEADLINE_SIDS = 1_000_000

TARGETS = {"mask_time_vs_static_1m": 0.8, "build_speedup_vs_static_1m": 5.0}
"""At most so much of STATIC's time to search, and at least so many times as fast to build."""


@dataclass(frozen=True)
class Setting:
    """One catalog of uniformly drawn semantic IDs, and one way to search it."""

    num_items: int
    vocabulary: int
    levels: int
    batch: int
    beam_width: int


@dataclass(frozen=True)
class SearchCell:
    """How long all levels of one search take.

    Args:
        setting: what was searched.
        ms: by contender, everything from scores to semantic IDs. Ours by torch's operations, as
            STATIC and the others; also without looking ahead, level by level as they go; and what
            of it is log softmax (everybody's) and looking up the beams' keys and values (ours
            alone, level by level). Then ours by level in compiled code, where there is any.
        skipped: contenders that did not run, and why.
        seed: of the scores.
    """

    setting: Setting
    ms: dict[str, float]
    skipped: dict[str, str]
    seed: int

    @property
    def ratio(self) -> float:
        """Our time over STATIC's, all of it."""
        return round(self.ms[OURS] / self.ms[STATIC], 3)

    @property
    def ratio_compiled(self) -> float | None:
        """Our time in compiled code over STATIC's, all of it; None without compiled code."""
        return round(self.ms[COMPILED] / self.ms[STATIC], 3) if COMPILED in self.ms else None

    @property
    def ratio_by_level(self) -> float:
        """The same for what the peers do, too: level by level, without keys and values."""
        return round((self.ms[BY_LEVEL] - self.ms[MEMORY]) / self.ms[STATIC], 3)


@dataclass(frozen=True)
class BuildCell:
    """From semantic IDs in the items' order to an index.

    Args:
        num_items: rows of the codes.
        vocabulary: codes per level.
        levels: codes per item.
        seconds: by contender.
        mib: by contender, memory of the index.
    """

    num_items: int
    vocabulary: int
    levels: int
    seconds: dict[str, float]
    mib: dict[str, float]

    @property
    def speedup(self) -> float | None:
        """STATIC's time over ours; None if STATIC was not built."""
        if STATIC not in self.seconds:
            return None
        return round(self.seconds[STATIC] / self.seconds[OURS], 2)


@dataclass(frozen=True)
class Verdict:
    """One target and what was found."""

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

    searches: list[SearchCell]
    builds: list[BuildCell]
    quick: bool
    environment: Environment

    @property
    def headline(self) -> dict[str, float]:
        """The numbers that have targets: those of the largest catalog that STATIC has, too.

        The time is of what both do: no peer looks ahead or looks up keys and values.
        """
        search = max(self.searches, key=lambda cell: cell.setting.num_items)
        speedups = {cell.num_items: cell.speedup for cell in self.builds if cell.speedup}
        return {
            "mask_time_vs_static_1m": search.ratio_by_level,
            "build_speedup_vs_static_1m": speedups[max(speedups)],
        }

    def verdicts(self) -> list[Verdict]:
        """Every target."""
        time, speedup = self.headline.items()
        return [
            Verdict(time[0], TARGETS[time[0]], time[1], reached=time[1] <= TARGETS[time[0]]),
            Verdict(
                speedup[0],
                TARGETS[speedup[0]],
                speedup[1],
                reached=speedup[1] >= TARGETS[speedup[0]],
            ),
        ]

    def to_json(self) -> dict[str, object]:
        """One object: the headline, then the details."""
        searches = [
            asdict(cell)
            | {
                "ours_vs_static": cell.ratio,
                "ours_compiled_vs_static": cell.ratio_compiled,
                "ours_by_level_without_keys_and_values_vs_static": cell.ratio_by_level,
            }
            for cell in self.searches
        ]
        return self.headline | {
            "benchmark": "trie",
            "quick": self.quick,
            "verdicts": [asdict(verdict) for verdict in self.verdicts()],
            "search": searches,
            "build": [asdict(cell) | {"speedup": cell.speedup} for cell in self.builds],
            "environment": self.environment,
        }
