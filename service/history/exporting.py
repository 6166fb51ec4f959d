"""Histories into a parquet file, a chunk of users at a time, in bounded memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from polars.exceptions import PolarsError

from service.errors import StartupError
from service.history.importing import COLUMNS

ROWS_PER_PART = 20_000


class HistoryParts:
    """Small parquet files, a part of the users in each, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.num_users = 0
        self.num_unreadable = 0
        self._folder = folder
        self._num_parts = 0
        self._waiting: list[tuple[str, list[str]]] = []

    def add(self, chunk: Sequence[tuple[str, list[str] | None]]) -> None:
        """Keep these users; those whose history cannot be read are only counted."""
        readable = [(user_id, history) for user_id, history in chunk if history is not None]
        self.num_users += len(readable)
        self.num_unreadable += len(chunk) - len(readable)
        self._waiting += readable
        if len(self._waiting) >= ROWS_PER_PART:
            self._write()

    def join(self, file: Path) -> None:
        """All parts as one file."""
        if self._waiting or not self._num_parts:
            self._write()
        pl.scan_parquet(self._folder / "*.parquet").sink_parquet(file)

    def _write(self) -> None:
        frame = pl.DataFrame(self._waiting, schema=COLUMNS, orient="row")
        frame.write_parquet(self._folder / f"{self._num_parts:06}.parquet")
        self._num_parts += 1
        self._waiting = []


@contextmanager
def history_file(path: Path) -> Iterator[HistoryParts]:
    """Parts that are `path`, as HistoryFile reads it, when the block is through; else it stays.

    StartupError in one line when they cannot be written.
    """
    try:
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            parts = HistoryParts(Path(folder))
            yield parts
            whole = Path(folder) / "whole"
            parts.join(whole)
            whole.replace(path)
    except (OSError, PolarsError) as error:
        raise StartupError(f"{path}: cannot be written: {error}") from error
