"""What the engine is asked and what it answers, in item indices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Query:
    """One question to the engine.

    Args:
        history: item indices, oldest first; must not be empty.
        limit: most items to answer with.
        beam_width: prefixes kept per level; None = the default, never less than limit.
        retention_ratio: one of the engine's; None = the one the bundle was trained with.
        exclude_seen: never answer with an item of `history`.
        explain: fill in level_log_probs and kept_history.
        decode: "beam", or "exact" for what is provably the best of the catalog (slower).
    """

    history: Sequence[int]
    limit: int = 10
    beam_width: int | None = None
    retention_ratio: float | None = None
    exclude_seen: bool = True
    explain: bool = False
    decode: Literal["beam", "exact"] = "beam"


@dataclass(frozen=True)
class RankedItem:
    """One item of an answer; the items of one bucket share its score."""

    item_index: int
    score: float
    sid: tuple[int, ...]
    level_log_probs: tuple[float, ...] | None


@dataclass(frozen=True)
class Answer:
    """Items, best first; fewer than asked when fewer legal ones exist.

    Args:
        tokens_in: history tokens before SAP.
        tokens_kept: history tokens after SAP.
        kept_history: with explain, (position in query.history, its tokens that SAP kept).
    """

    items: list[RankedItem]
    tokens_in: int
    tokens_kept: int
    kept_history: list[tuple[int, int]] | None
