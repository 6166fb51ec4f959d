"""What the engine is asked and what it answers, in item indices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_BOOST = 10.0
"""Most that boosts may add to or take from a score, together."""


@dataclass(frozen=True)
class Boost:
    """Rank some items higher, or lower; their scores stay what the model says.

    Args:
        by: added to the score for ranking; at e.g. 0.7 an item ranks as if twice as likely.
        where: a filter expression that the items match (see model.where); None = all of `items`.
        items: item indices; None = all that match `where`.
    """

    by: float
    where: str | None = None
    items: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Diversity:
    """At most `max_items` items of an answer may share their first `prefix_length` codes."""

    max_items: int
    prefix_length: int = 1


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
        where: a filter expression over the catalog's columns (see model.where).
        allow: the only items to answer with; None = all.
        deny: items never to answer with.
        boosts: what ranks higher or lower; several add up, to MAX_BOOST at most.
        diversity: how many items may be alike.
        explore: so many of the items, if they exist, are ones that nobody had when the model
            learned: the best of them take the last places.
    """

    history: Sequence[int]
    limit: int = 10
    beam_width: int | None = None
    retention_ratio: float | None = None
    exclude_seen: bool = True
    explain: bool = False
    decode: Literal["beam", "exact"] = "beam"
    where: str | None = None
    allow: tuple[int, ...] | None = None
    deny: tuple[int, ...] = ()
    boosts: tuple[Boost, ...] = ()
    diversity: Diversity | None = None
    explore: int = 0


@dataclass(frozen=True)
class RankedItem:
    """One item of an answer; the items of one bucket share its score.

    Items are ranked by `score` + `boost`, then by semantic ID.
    """

    item_index: int
    score: float
    sid: tuple[int, ...]
    level_log_probs: tuple[float, ...] | None
    boost: float = 0.0


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


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how long a query takes; queries of one shape share a batch.

    Args:
        num_items: of the padded history, one of the engine's `lengths`.
        beam_width: prefixes kept per level.
        retention_ratio: one of the engine's.
        exact: widen the beam until the answer is proved.
    """

    num_items: int
    beam_width: int
    retention_ratio: float
    exact: bool = False
