"""Catalog: what the items are called and how popular they are; row = item_index, from 0."""

from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from model.errors import ModelError

COLUMNS = {"item_id": pl.String, "title": pl.String, "popularity": pl.Int64}
MAX_CHUNKS = 64
"""Changes splice rows into the frame; after so many pieces it is made whole again."""


class Catalog:
    """Item ids, titles, training popularity, and every other column as attributes.

    It grows at its end; no item ever changes its index.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        """Keep a frame as `from_frame` makes it."""
        self.frame = frame
        self.item_ids: list[str] = frame["item_id"].to_list()
        self.titles: list[str | None] = frame["title"].to_list()
        self._by_popularity: npt.NDArray[np.int64] | None = None

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> Self:
        """Read a frame with the columns item_id, title, popularity and any attributes."""
        missing = [column for column in COLUMNS if column not in frame.columns]
        if missing:
            raise ModelError(f"the catalog lacks the column {missing[0]!r}")
        if frame["item_id"].n_unique() != frame.height:
            raise ModelError("the catalog holds an item_id twice")
        attributes = [name for name in frame.columns if name not in COLUMNS]
        columns = [pl.col(name).cast(dtype) for name, dtype in COLUMNS.items()]
        return cls(frame.select(*columns, *attributes))

    def to_frame(self) -> pl.DataFrame:
        """The inverse of from_frame."""
        return self.frame

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def popularity(self) -> npt.NDArray[np.int64]:
        """(num_items,): interactions in training."""
        return self.frame["popularity"].to_numpy()

    @cached_property
    def _index(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    def index_of(self, item_id: str) -> int | None:
        """The item's row, or None if the catalog does not know it."""
        return self._index.get(item_id)

    def find(self, text: str) -> npt.NDArray[np.int64]:
        """Indices of the items with `text` in the title, in any case, or as id; popular ones first.

        Reads every title: a hundred milliseconds at a million items.
        """
        in_title = pl.col("title").str.to_lowercase().str.contains(text.lower(), literal=True)
        matches = in_title.fill_null(value=False) | (pl.col("item_id") == text)
        found = self.frame.lazy().with_row_index("index").filter(matches)
        found = found.sort(["popularity", "index"], descending=[True, False])
        return found.select(pl.col("index").cast(pl.Int64)).collect()["index"].to_numpy()

    @property
    def by_popularity(self) -> npt.NDArray[np.int64]:
        """Item indices, most popular first, then in catalog order."""
        if self._by_popularity is None:
            self._by_popularity = np.argsort(-self.popularity, kind="stable")
        return self._by_popularity

    def like_its_own(self, items: pl.DataFrame) -> pl.DataFrame:
        """Items with exactly the catalog's columns, those not given null, popularity 0.

        Raises:
            ModelError: a column that the catalog has not, popularity, or values of another type.
        """
        schema = self.frame.schema
        settable = [name for name in schema if name != "popularity"]
        if unknown := [name for name in items.columns if name not in settable]:
            known = ", ".join(settable)
            raise ModelError(f"the catalog has no column {unknown[0]!r} to set; it has {known}")
        columns = []
        for name, dtype in schema.items():
            nothing = 0 if name == "popularity" else None
            if name not in items.columns:
                columns.append(pl.Series(name, [nothing] * items.height, dtype))
                continue
            try:
                columns.append(items[name].cast(dtype))
            except pl.exceptions.PolarsError as error:
                raise ModelError(f"column {name!r} takes values of type {dtype}") from error
        return pl.DataFrame(columns)

    def put(self, items: pl.DataFrame) -> None:
        """Replace what is known of items, or add them at the end.

        Args:
            items: of `like_its_own`, no item_id twice.
        """
        indices = [self.index_of(item_id) for item_id in items["item_id"]]
        places = [(index, row) for row, index in enumerate(indices) if index is not None]
        popularity = self.frame["popularity"]
        pieces, start = [], 0
        for index, row in sorted(places):
            changed = items[[row]].with_columns(popularity=popularity[[index]])
            self.titles[index] = changed["title"][0]
            pieces += [self.frame[start:index], changed]
            start = index + 1
        new = items.filter(pl.Series([index is None for index in indices], dtype=pl.Boolean))
        for item_id, title in new.select("item_id", "title").iter_rows():
            self.titles.append(title)
            self.item_ids.append(item_id)
            self._index[item_id] = len(self.item_ids) - 1
        self.frame = pl.concat([*pieces, self.frame[start:], new], rechunk=False)
        if self.frame.n_chunks() > MAX_CHUNKS:
            self.frame = self.frame.rechunk()
        if self._by_popularity is not None and new.height:
            fresh = np.arange(len(self) - new.height, len(self))
            self._by_popularity = np.append(self._by_popularity, fresh)
