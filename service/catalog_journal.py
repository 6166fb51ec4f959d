"""CatalogJournal: changes to the catalog, kept in one SQLite file so that they survive a restart.

One row an item: what was last said of it, in the order in which it was said. A change is written
first and applied then; one that the engine refuses is taken back.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import structlog
from polars.exceptions import PolarsError
from pydantic import JsonValue

from model.engine import Engine
from model.errors import ModelError
from service.errors import CatalogUnavailableError, InvalidRequestError, StartupError

SCHEMA = """
    CREATE TABLE IF NOT EXISTS changes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        item_id TEXT NOT NULL UNIQUE,
        columns TEXT,
        vector BLOB,
        removed INTEGER NOT NULL
    )
"""
WRITE = "INSERT OR REPLACE INTO changes (item_id, columns, vector, removed) VALUES (?, ?, ?, ?)"

log = structlog.get_logger()


@dataclass(frozen=True)
class Change:
    """What was last said of an item.

    Args:
        item_id: of the item.
        columns: its title and attributes; None = nothing was said of them.
        vector: float32 bytes of what it was placed by; None = the bundle has it.
        removed: whether it was taken out.
    """

    item_id: str
    columns: dict[str, JsonValue] | None = None
    vector: bytes | None = None
    removed: bool = False


class CatalogJournal:
    """Use it from one thread at a time: the engine's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> "CatalogJournal":
        """Open the file, made when missing, or StartupError in one line."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StartupError(f"catalog file {path}: {error}") from error
        return cls(connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def get(self, item_id: str) -> Change | None:
        """What was last said of the item."""
        query = "SELECT item_id, columns, vector, removed FROM changes WHERE item_id = ?"
        with _translated():
            row = self._connection.execute(query, (item_id,)).fetchone()
        return None if row is None else _change(row)

    def replay(self, engine: Engine) -> int:
        """Apply everything to an engine that was just loaded; the number of changes applied.

        What this bundle cannot take, e.g. a vector of another width, is logged and left alone.
        """
        query = "SELECT item_id, columns, vector, removed FROM changes ORDER BY number"
        with _translated():
            rows = self._connection.execute(query).fetchall()
        return _apply_all(engine, [_change(row) for row in rows])

    def put(self, engines: Sequence[Engine], change: Change) -> None:
        """Keep a change, then apply it; InvalidRequestError if the first engine refuses it.

        What another engine refuses is logged, as in `replay`.
        """
        before = self.get(change.item_id)
        if before is not None and change.vector is None:
            change = replace(change, vector=before.vector)
        self._write(change)
        try:
            apply(engines[0], change)
        except ModelError as error:
            self._restore(change.item_id, before)
            raise InvalidRequestError(str(error)) from error
        for engine in engines[1:]:
            _apply_if_taken(engine, change)

    def remove(self, engines: Sequence[Engine], item_id: str) -> None:
        """Keep that an item was taken out, and take it out; what was said of it stays."""
        change = replace(self.get(item_id) or Change(item_id), removed=True)
        self._write(change)
        for engine in engines:
            engine.remove_items([item_id])

    def _write(self, change: Change) -> None:
        columns = None if change.columns is None else json.dumps(change.columns)
        with _translated():
            row = (change.item_id, columns, change.vector, change.removed)
            self._connection.execute(WRITE, row)

    def _restore(self, item_id: str, before: Change | None) -> None:
        if before is not None:
            self._write(before)
            return
        with _translated():
            self._connection.execute("DELETE FROM changes WHERE item_id = ?", (item_id,))


def apply(engine: Engine, change: Change) -> None:
    """Bring an item to what was said of it; ModelError if the catalog cannot take that."""
    if change.columns is not None:
        _put(engine, [change])
    if change.removed:
        engine.remove_items([change.item_id])


def _put(engine: Engine, changes: Sequence[Change]) -> None:
    """Put items of which the same columns are said, all or none of them with vectors."""
    frame = pl.DataFrame([change.columns for change in changes], infer_schema_length=None)
    frame = frame.with_columns(item_id=pl.Series([change.item_id for change in changes]))
    vectors = [np.frombuffer(c.vector, dtype=np.float32) for c in changes if c.vector is not None]
    engine.put_items(frame, np.stack(vectors) if vectors else None)


def _apply_all(engine: Engine, changes: Sequence[Change]) -> int:
    """Apply changes of different items, alike ones at once; how many were taken."""
    groups: dict[tuple[object, ...], list[Change]] = defaultdict(list)
    for change in changes:
        columns, vector = change.columns or {}, change.vector
        groups[tuple(sorted(columns)), None if vector is None else len(vector)].append(change)
    return sum(_apply_alike(engine, group) for group in groups.values())


def _apply_alike(engine: Engine, changes: Sequence[Change]) -> int:
    """Apply changes at once; if that is refused, one by one, so that the log names the wrong."""
    if changes[0].columns:
        try:
            _put(engine, changes)
        except (ModelError, PolarsError):
            return sum(_apply_if_taken(engine, change) for change in changes)
    engine.remove_items([change.item_id for change in changes if change.removed])
    return len(changes)


def _apply_if_taken(engine: Engine, change: Change) -> bool:
    """Whether the engine took the change; the log has it if not."""
    try:
        apply(engine, change)
    except ModelError as error:
        version = engine.manifest.version
        log.warning(
            "catalog_change_refused", item_id=change.item_id, version=version, error=str(error)
        )
        return False
    return True


def _change(row: tuple[str, str | None, bytes | None, int]) -> Change:
    item_id, columns, vector, removed = row
    return Change(item_id, None if columns is None else json.loads(columns), vector, bool(removed))


@contextmanager
def _translated() -> Iterator[None]:
    """SQLite's failures as the service's."""
    try:
        yield
    except sqlite3.Error as error:
        raise CatalogUnavailableError(f"The catalog's file failed: {error}.") from error
