"""The embedded, durable history store: one SQLite file, no server.

Table `items` gives each item id a stable integer key; table `histories` holds each user's keys as
packing.py lays them out; `applied` and `claims` hold what append_many and claim remember.

Reads run on the caller's thread, the event loop's: about 5 microseconds a user, and in WAL mode no
writer holds them up. Writes run on the store's own thread, for they may wait for another process's.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from service.errors import HistoryStoreError, StartupError, UnreadableHistoryError
from service.history.packing import pack, unpack
from service.history.store import EXPORT_USERS, REMEMBER_S, Append, HistoryStore, NewItem

APPLICATION_ID = 0x53544D50  # "STMP", in the file's header
SCHEMA_VERSION = 1
SCHEMA = """
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS items (item_key INTEGER PRIMARY KEY, item_id TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS histories (user_id TEXT PRIMARY KEY, packed BLOB NOT NULL);
    PRAGMA application_id = {application_id};
    PRAGMA user_version = {schema_version};
    COMMIT;
"""
REMEMBERED = """
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS applied (
        user_id TEXT, token BLOB, until_s REAL NOT NULL, PRIMARY KEY (user_id, token)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS applied_until ON applied (until_s);
    CREATE TABLE IF NOT EXISTS claims (
        claim BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, until_s REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS claims_until ON claims (until_s);
    COMMIT;
"""
UPSERT = """
    INSERT INTO histories (user_id, packed) VALUES (?, ?)
    ON CONFLICT (user_id) DO UPDATE SET packed = excluded.packed
"""
INSERT_IF_NEW = """
    INSERT INTO histories (user_id, packed) VALUES (?, ?) ON CONFLICT (user_id) DO NOTHING
"""
READ_TIMEOUT_S = 0.05
WRITE_TIMEOUT_S = 5.0

ResultT = TypeVar("ResultT")


class SqliteHistoryStore(HistoryStore):
    """A connection to read on the event loop's thread, and a thread with one to write."""

    def __init__(
        self,
        reader: sqlite3.Connection,
        writer: sqlite3.Connection,
        max_items: int,
        clock: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._max_items = max_items
        self._clock = clock
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="history-writer")
        self._ids: dict[int, str] = {}  # as far as read; keys never change
        self._keys: dict[str, int] = {}  # as far as written

    @classmethod
    def open(
        cls, path: Path, *, max_items: int, clock: Callable[[], float] = time.time
    ) -> "SqliteHistoryStore":
        """Open the file, made when missing, or StartupError in one line."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as on_failure:
                writer = _connect(path, WRITE_TIMEOUT_S)
                on_failure.callback(writer.close)
                _check_schema(writer, path)
                reader = _connect(path, READ_TIMEOUT_S)
                on_failure.pop_all()
                return cls(reader, writer, max_items, clock)
        except (OSError, sqlite3.Error) as error:
            raise StartupError(f"history store {path}: {error}") from error

    async def get_many(self, user_ids: Sequence[str]) -> list[list[str] | None]:
        """See HistoryStore."""
        query = "SELECT packed FROM histories WHERE user_id = ?"
        with _translated():
            rows = [self._reader.execute(query, (user_id,)).fetchone() for user_id in user_ids]
            return [self._read(row[0]) if row else [] for row in rows]

    async def append_many(self, appends: Sequence[Append]) -> list[int | HistoryStoreError]:
        """See HistoryStore; one transaction."""

        def write() -> list[int | HistoryStoreError]:
            self._writer.execute("DELETE FROM applied WHERE until_s <= ?", (self._clock(),))
            return [self._append(user_id, items) for user_id, items in appends]

        return await self._in_transaction(write)

    async def claim(self, key: bytes, fingerprint: bytes) -> bool:
        """See HistoryStore."""

        def write() -> bool:
            now = self._clock()
            self._writer.execute("DELETE FROM claims WHERE until_s <= ?", (now,))
            statement = "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT (claim) DO NOTHING"
            self._writer.execute(statement, (key, fingerprint, now + REMEMBER_S))
            query = "SELECT fingerprint FROM claims WHERE claim = ?"
            return bool(self._writer.execute(query, (key,)).fetchone()[0] == fingerprint)

        return await self._in_transaction(write)

    async def import_many(
        self, histories: Sequence[tuple[str, Sequence[str]]], *, replace: bool
    ) -> int:
        """See HistoryStore."""

        def write() -> int:
            before = self._writer.total_changes
            rows = [
                (user_id, self._keys_of(item_ids[-self._max_items :]))
                for user_id, item_ids in histories
            ]
            num_new_items = self._writer.total_changes - before
            statement = UPSERT if replace else INSERT_IF_NEW
            self._writer.executemany(statement, ((user_id, pack(keys)) for user_id, keys in rows))
            return self._writer.total_changes - before - num_new_items

        return await self._in_transaction(write)

    async def export(self) -> AsyncIterator[list[tuple[str, list[str] | None]]]:
        """See HistoryStore."""
        query = (
            "SELECT rowid, user_id, packed FROM histories WHERE rowid > ? ORDER BY rowid LIMIT ?"
        )
        last = 0
        while True:
            with _translated():
                rows = self._reader.execute(query, (last, EXPORT_USERS)).fetchall()
                chunk = [(user_id, self._read(packed)) for _, user_id, packed in rows]
            if not chunk:
                return
            yield chunk
            last = rows[-1][0]

    async def delete(self, user_id: str) -> bool:
        """See HistoryStore."""

        def write() -> bool:
            self._writer.execute("DELETE FROM applied WHERE user_id = ?", (user_id,))
            statement = "DELETE FROM histories WHERE user_id = ?"
            return self._writer.execute(statement, (user_id,)).rowcount > 0

        return await self._in_transaction(write)

    async def count(self) -> int:
        """See HistoryStore."""
        with _translated():
            (num_users,) = self._reader.execute("SELECT count(*) FROM histories").fetchone()
        return int(num_users)

    async def close(self) -> None:
        """See HistoryStore."""
        self._writing.shutdown(wait=True)
        self._reader.close()
        self._writer.close()

    def _read(self, packed: bytes) -> list[str] | None:
        """The item ids of a history, None if it is damaged."""
        try:
            return [self._id_of(key) for key in unpack(packed)]
        except UnreadableHistoryError:
            return None

    def _append(self, user_id: str, items: Sequence[NewItem]) -> int | HistoryStoreError:
        """One user's part of append_many, within a transaction."""
        query = "SELECT packed FROM histories WHERE user_id = ?"
        row = self._writer.execute(query, (user_id,)).fetchone()
        try:
            known = unpack(row[0]) if row else ()
        except UnreadableHistoryError as error:
            return error
        new = [item_id for item_id, token in items if token is None or self._is_new(user_id, token)]
        if new:
            keys = [*known, *self._keys_of(new)]
            self._writer.execute(UPSERT, (user_id, pack(keys[-self._max_items :])))
        return len(new)

    def _is_new(self, user_id: str, token: bytes) -> bool:
        """Remember the token; whether it was not known."""
        statement = "INSERT INTO applied VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        values = (user_id, token, self._clock() + REMEMBER_S)
        return self._writer.execute(statement, values).rowcount > 0

    def _id_of(self, key: int) -> str:
        """The item id with this key; looked up once."""
        if key not in self._ids:
            query = "SELECT item_id FROM items WHERE item_key = ?"
            row = self._reader.execute(query, (key,)).fetchone()
            if row is None:
                raise UnreadableHistoryError(f"A history names item key {key}, which has no item.")
            self._ids[key] = row[0]
        return self._ids[key]

    def _keys_of(self, item_ids: Sequence[str]) -> list[int]:
        """The items' keys, made for new items; within a transaction of the writer."""
        for item_id in item_ids:
            if item_id not in self._keys:
                row = (
                    self._writer.execute(
                        "INSERT INTO items (item_id) VALUES (?) ON CONFLICT (item_id) DO NOTHING"
                        " RETURNING item_key",
                        (item_id,),
                    ).fetchone()
                    or self._writer.execute(
                        "SELECT item_key FROM items WHERE item_id = ?", (item_id,)
                    ).fetchone()
                )
                self._keys[item_id] = row[0]
        return [self._keys[item_id] for item_id in item_ids]

    async def _in_transaction(self, write: Callable[[], ResultT]) -> ResultT:
        """Run `write` on the writer's thread, in one transaction: all of it is kept, or none."""

        def run() -> ResultT:
            with _translated(), ExitStack() as on_failure:
                on_failure.callback(self._keys.clear)  # some may be new, and rolled back
                with self._writer:
                    self._writer.execute("BEGIN IMMEDIATE")
                    result = write()
                on_failure.pop_all()
                return result

        return await asyncio.get_running_loop().run_in_executor(self._writing, run)


def _connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    """A connection that commits on its own, durable but for the last moments before a power cut."""
    connection = sqlite3.connect(
        path, timeout=timeout_s, isolation_level=None, check_same_thread=False
    )
    with ExitStack() as on_failure:
        on_failure.callback(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        on_failure.pop_all()
    return connection


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Lay out an empty file; refuse one that is not ours, or newer.

    REMEMBERED came later and is laid out in any: programs that do not know it need not care.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (schema_version,) = connection.execute("PRAGMA user_version").fetchone()
    (num_tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (application_id, schema_version, num_tables) == (0, 0, 0):
        connection.executescript(
            SCHEMA.format(application_id=APPLICATION_ID, schema_version=SCHEMA_VERSION)
        )
    elif (application_id, schema_version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise StartupError(f"history store {path}: not a version {SCHEMA_VERSION} history store")
    query = "SELECT count(*) FROM sqlite_schema WHERE name = 'claims_until'"
    if not connection.execute(query).fetchone()[0]:
        connection.executescript(REMEMBERED)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn SQLite's errors into HistoryStoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise HistoryStoreError(f"The history store failed: {error}") from error
