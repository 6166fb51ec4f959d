"""Histories from a parquet file, a chunk of users at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl
from polars.exceptions import PolarsError

from service.errors import StartupError

CHUNK_ROWS = 5_000
COLUMNS = {"user_id": pl.String(), "item_ids": pl.List(pl.String)}


@dataclass(frozen=True)
class HistoryFile:
    """A row for each user: `user_id`, and `item_ids`, oldest first; other columns are ignored."""

    path: Path
    frame: pl.LazyFrame
    num_users: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the file's schema and length, or raise StartupError in one line."""
        try:
            frame = pl.scan_parquet(path, glob=False)
            schema = frame.collect_schema()
            num_users = frame.select(pl.len()).collect().item()
        except (OSError, PolarsError) as error:
            raise StartupError(f"{path}: not a readable parquet file") from error
        for name, kind in COLUMNS.items():
            if schema.get(name) != kind:
                found = schema.get(name, "missing")
                raise StartupError(f"{path}: column {name} is {found}, expected {kind}")
        return cls(path, frame.select(*COLUMNS), num_users)

    def chunks(self, num_rows: int = CHUNK_ROWS) -> Iterator[list[tuple[str, list[str]]]]:
        """The users in the file's order, at most num_rows at a time; StartupError on a null."""
        items_null = pl.col("item_ids").list.eval(pl.element().is_null()).list.any()
        for first in range(0, self.num_users, num_rows):
            chunk = self.frame.slice(first, num_rows).collect(engine="streaming")
            null = chunk.select(pl.any_horizontal(pl.all().is_null(), items_null)).to_series()
            if null.any():
                row = first + null.arg_true()[0]
                raise StartupError(f"{self.path}: row {row} (counted from 0) holds a null")
            yield chunk.rows()
