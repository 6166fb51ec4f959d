"""From a source to the prepared data folder, and from there to histories of item indices.

Shape words: num_users, num_items, num_interactions. An item index is a row of items.parquet.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from model.errors import ModelError
from training.card import DataCard
from training.data_config import DatasetConfig
from training.files import atomic_path
from training.sources import Source, load_source

ItemIndices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Prepared:
    """What the prepare step writes.

    interactions: user_id, item_id, position (int64, from 0 per user), timestamp (int64 or null);
    users in order of first appearance. items: item_id, title, text, brand, categories, and others;
    row = item index.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    card: DataCard

    def write(self, folder: Path) -> None:
        """Write interactions, items, histories and card into `folder`, each file atomically.

        card.json comes last: where it is, the others are.
        """
        histories = self.interactions.group_by("user_id", maintain_order=True).agg(
            pl.col("item_id").alias("item_ids")
        )
        tables = {"interactions": self.interactions, "items": self.items, "histories": histories}
        (folder / "card.json").unlink(missing_ok=True)
        for name, table in tables.items():
            with atomic_path(folder / f"{name}.parquet") as part:
                table.write_parquet(part)
        with atomic_path(folder / "card.json") as part:
            part.write_text(self.card.model_dump_json(indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Histories:
    """All users' items in one array: user u owns items[offsets[u] : offsets[u + 1]], oldest first.

    Args:
        user_ids: one per user.
        items: (num_interactions,) int32 item indices.
        offsets: (num_users + 1,) int64.
        timestamps: (num_interactions,) int64 seconds UTC, or None where any is unknown.
    """

    user_ids: list[str]
    items: ItemIndices
    offsets: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(num_users,): items of each user."""
        return np.diff(self.offsets)

    @property
    def user_of(self) -> npt.NDArray[np.int64]:
        """(num_interactions,): whose each item is."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def history(self, user: int) -> ItemIndices:
        """One user's items, oldest first: a view."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def popularity(self, num_items: int) -> npt.NDArray[np.int64]:
        """(num_items,): interactions per item."""
        return np.bincount(self.items, minlength=num_items)


def prepare(config: DatasetConfig) -> Prepared:
    """Read, check, filter and describe the data a recipe names."""
    return build(load_source(config), config)


def build(source: Source, config: DatasetConfig) -> Prepared:
    """Filter a source, make the catalog and its texts, and count."""
    events = _core(_known(source, config), config)
    if events.is_empty():
        raise ModelError("no interaction is left after filtering; lower min_*_interactions")
    items = _catalog(events, source.items, config)
    text = _text(items, config.text_fields)
    has_text = items.select(text.is_not_null()).to_series()
    items = items.with_columns(pl.coalesce(text, "item_id").alias("text"))
    position = pl.int_range(pl.len(), dtype=pl.Int64).over("user_id").alias("position")
    interactions = events.select("user_id", "item_id", position, "timestamp")
    card = DataCard.describe(source, interactions, items, has_text=has_text)
    first = ["item_id", "title", "text", "brand", "categories"]
    return Prepared(interactions, items.select(*first, pl.exclude(first)), card)


def read_card(folder: Path) -> DataCard:
    """The card of a prepared folder."""
    return DataCard.model_validate_json((folder / "card.json").read_bytes())


def read_items(folder: Path) -> pl.DataFrame:
    """The catalog of a prepared folder; row = item index."""
    return pl.read_parquet(folder / "items.parquet")


def read_histories(folder: Path) -> Histories:
    """All interactions of a prepared folder, as item indices."""
    interactions = pl.read_parquet(folder / "interactions.parquet")
    return to_histories(interactions, read_items(folder)["item_id"])


def to_histories(interactions: pl.DataFrame, item_ids: pl.Series) -> Histories:
    """Interactions grouped by user, in order; every item_id must be one of `item_ids`."""
    indices = pl.DataFrame({"item_id": item_ids}).with_row_index("item_index")
    joined = interactions.join(indices, on="item_id", how="left", maintain_order="left")
    users = joined.select(pl.col("user_id").rle().struct.unnest())
    times = joined["timestamp"]
    return Histories(
        user_ids=users["value"].to_list(),
        items=joined["item_index"].cast(pl.Int32).to_numpy(),
        offsets=np.concatenate(([0], np.cumsum(users["len"].to_numpy(), dtype=np.int64))),
        timestamps=None if times.null_count() else times.to_numpy(),
    )


def _known(source: Source, config: DatasetConfig) -> pl.DataFrame:
    events = source.interactions
    if config.unknown_items == "keep":
        return events
    known = events.join(source.items, on="item_id", how="semi", maintain_order="left")
    lost = events.height - known.height
    if lost and config.unknown_items == "error":
        unknown = events.join(source.items, on="item_id", how="anti", maintain_order="left")
        raise ModelError(
            f"{lost:,} interactions are with items that the items file lacks, first "
            f"{unknown['item_id'][0]!r}; add them or set unknown_items to keep or drop"
        )
    return known


def _core(events: pl.DataFrame, config: DatasetConfig) -> pl.DataFrame:
    """The k-core filter: users, then items, again until nothing changes."""
    enough_of_user = pl.len().over("user_id") >= config.min_user_interactions
    enough_of_item = pl.len().over("item_id") >= config.min_item_interactions
    before = -1
    while before != events.height:
        before = events.height
        events = events.filter(enough_of_user).filter(enough_of_item)
    return events


def _catalog(events: pl.DataFrame, items: pl.DataFrame, config: DatasetConfig) -> pl.DataFrame:
    """The items file's items in its order, then the unknown ones by first appearance."""
    seen = events.select("item_id").unique(maintain_order=True)
    if config.cold_items == "drop":
        items = items.join(seen, on="item_id", how="semi", maintain_order="left")
    unknown = seen.join(items, on="item_id", how="anti", maintain_order="left")
    no_categories = pl.col("categories").fill_null([])
    return pl.concat([items, unknown], how="diagonal").with_columns(no_categories)


def _text(items: pl.DataFrame, fields: tuple[str, ...]) -> pl.Expr:
    """`title. Brand: b. Categories: a, b, c`: the first field bare; null if all are absent."""
    missing = [field for field in fields if field not in items.columns]
    if missing:
        raise ModelError(
            f"text_fields: no column {missing[0]!r}; the items have {', '.join(items.columns)}"
        )
    parts = []
    for number, field in enumerate(fields):
        is_list = isinstance(items.schema[field], pl.List)
        joined = (
            pl.col(field).cast(pl.List(pl.String)).list.join(", ") if is_list else pl.col(field)
        )
        value = joined.cast(pl.String)
        label = f"{field.replace('_', ' ').capitalize()}: " if number else ""
        parts.append(pl.when(value != "").then(pl.concat_str(pl.lit(label), value)))
    text = pl.concat_str(parts, separator=". ", ignore_nulls=True)
    return pl.when(text != "").then(text)
