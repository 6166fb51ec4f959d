"""The data card: what a prepared data set holds, and what was wrong with the raw one."""

import datetime as dt
from typing import Self

import numpy as np
import polars as pl
from pydantic import BaseModel
from rich.table import Table

from training.sources import Source

MAX_EXAMPLES = 5
SECONDS_PER_DAY = 86_400
QUANTILES = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


class DataCard(BaseModel, frozen=True, extra="forbid"):
    """Counts of a prepared data set (data/card.json)."""

    users: int
    items: int
    interactions: int
    density: float
    """Interactions / (users x items)."""
    history_lengths: dict[str, float]
    """min, p25, median, p75, p95, max and mean of interactions per user."""
    repeats: int
    """Interactions with an item that the same user had before."""
    same_day_share: float | None
    """Share of steps from one item to a user's next within one day (UTC); None without times."""
    first_day: dt.date | None
    last_day: dt.date | None
    users_without_test: int
    """Users with fewer than 3 interactions: leave-one-out uses them for training only."""
    cold_items: int
    """Catalog items without any interaction."""
    items_without_title: int
    items_without_text: int
    """Items with none of the text fields: their item_id is embedded."""
    items_without_text_examples: list[str]
    unknown_items: int
    """Items of interactions that the items file lacks."""
    unknown_items_examples: list[str]
    duplicates_dropped: int
    duplicate_items_dropped: int
    interactions_filtered: int
    """Interactions lost to the k-core filter and to unknown_items = "drop"."""

    @classmethod
    def describe(
        cls, source: Source, interactions: pl.DataFrame, items: pl.DataFrame, *, has_text: pl.Series
    ) -> Self:
        """Count.

        Args:
            source: what the reader gave.
            interactions: user_id, item_id, timestamp, position; as prepared.
            items: item_id, title; the catalog.
            has_text: one bool per catalog item: false where only the item_id is embedded.
        """
        lengths = interactions.group_by("user_id").len()["len"]
        users, pairs = lengths.len(), interactions.select("user_id", "item_id").n_unique()
        raw_items = source.interactions["item_id"].unique(maintain_order=True)
        unknown = raw_items.filter(~raw_items.is_in(source.items["item_id"].implode()))
        textless = items["item_id"].filter(~has_text)
        return cls(
            users=users,
            items=items.height,
            interactions=interactions.height,
            density=interactions.height / (users * items.height),
            history_lengths=_lengths(lengths),
            repeats=interactions.height - pairs,
            **_times(interactions),
            users_without_test=int((lengths < 3).sum()),
            cold_items=items.height - interactions["item_id"].n_unique(),
            items_without_title=items["title"].null_count(),
            items_without_text=textless.len(),
            items_without_text_examples=textless.head(MAX_EXAMPLES).to_list(),
            unknown_items=unknown.len(),
            unknown_items_examples=unknown.head(MAX_EXAMPLES).to_list(),
            duplicates_dropped=source.num_duplicates,
            duplicate_items_dropped=source.num_duplicate_items,
            interactions_filtered=source.interactions.height - interactions.height,
        )


def render_card(card: DataCard) -> Table:
    """The card as a table for the terminal; what is zero and a fault is left out."""
    table = Table(title="Data", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    lengths = card.history_lengths
    table.add_row("users", f"{card.users:,}")
    table.add_row("items", f"{card.items:,}")
    table.add_row("interactions", f"{card.interactions:,}")
    table.add_row("density", f"{card.density:.4%}")
    table.add_row("history length", " / ".join(f"{lengths[name]:g}" for name in QUANTILES))
    table.add_row("", " / ".join(QUANTILES))
    table.add_row("mean history length", f"{lengths['mean']:.2f}")
    if card.same_day_share is not None:
        table.add_row("days", f"{card.first_day} to {card.last_day}")
        table.add_row("steps within one day", f"{card.same_day_share:.1%}")
    for label, count, examples in _remarks(card):
        if count:
            listed = f" ({', '.join(examples)}{', ...' if count > len(examples) else ''})"
            table.add_row(label, f"{count:,}{listed if examples else ''}")
    return table


def _remarks(card: DataCard) -> list[tuple[str, int, list[str]]]:
    return [
        ("repeated items in a history", card.repeats, []),
        ("users too short for a test item", card.users_without_test, []),
        ("items without interactions", card.cold_items, []),
        ("items without a title", card.items_without_title, []),
        ("items without any text", card.items_without_text, card.items_without_text_examples),
        ("items missing in the items file", card.unknown_items, card.unknown_items_examples),
        ("duplicate interactions dropped", card.duplicates_dropped, []),
        ("duplicate items dropped", card.duplicate_items_dropped, []),
        ("interactions filtered out", card.interactions_filtered, []),
    ]


def _lengths(lengths: pl.Series) -> dict[str, float]:
    values = lengths.to_numpy()
    shares = [*QUANTILES.values()]
    quantiles = np.quantile(values, shares, method="nearest").astype(float).tolist()
    return dict(zip(QUANTILES, quantiles, strict=True)) | {"mean": round(float(values.mean()), 2)}


def _times(interactions: pl.DataFrame) -> dict[str, float | dt.date | None]:
    """Same-day share, first and last day; None each where any timestamp is missing."""
    times = interactions["timestamp"]
    if times.null_count():
        return {"same_day_share": None, "first_day": None, "last_day": None}
    day = pl.col("timestamp").floordiv(SECONDS_PER_DAY)
    step = pl.col("user_id") == pl.col("user_id").shift(1)
    same = interactions.select(
        ((day == day.shift(1)) & step).sum() / pl.max_horizontal(step.sum(), 1)
    )
    first, last = (
        (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=int(value))).date()
        for value in (times.to_numpy().min(), times.to_numpy().max())
    )
    return {"same_day_share": float(same.item()), "first_day": first, "last_day": last}
