"""Catalog: what the items are called and how popular they are; row = item_index, from 0."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from model.errors import ModelError

COLUMNS = ("item_id", "title", "popularity")


@dataclass(frozen=True)
class Catalog:
    """Item ids, titles, training popularity, and every other column as attributes."""

    item_ids: list[str]
    titles: list[str | None]
    popularity: npt.NDArray[np.int64]
    attributes: pl.DataFrame

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> "Catalog":
        """Read a frame with the columns item_id, title, popularity and any attributes."""
        missing = [column for column in COLUMNS if column not in frame.columns]
        if missing:
            raise ModelError(f"the catalog lacks the column {missing[0]!r}")
        if frame["item_id"].n_unique() != frame.height:
            raise ModelError("the catalog holds an item_id twice")
        return cls(
            item_ids=frame["item_id"].cast(pl.String).to_list(),
            titles=frame["title"].cast(pl.String).to_list(),
            popularity=frame["popularity"].cast(pl.Int64).to_numpy().copy(),
            attributes=frame.drop(COLUMNS),
        )

    def to_frame(self) -> pl.DataFrame:
        """The inverse of from_frame."""
        columns = {
            "item_id": pl.Series(self.item_ids, dtype=pl.String),
            "title": pl.Series(self.titles, dtype=pl.String),
            "popularity": pl.Series(self.popularity),
        }
        return pl.DataFrame(columns).hstack(self.attributes)

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    def index_of(self, item_id: str) -> int | None:
        """The item's row, or None if the catalog does not know it."""
        return self._index.get(item_id)

    @cached_property
    def by_popularity(self) -> npt.NDArray[np.int64]:
        """Item indices, most popular first, then in catalog order."""
        return np.argsort(-self.popularity, kind="stable")
