"""HistoryStore: each user's latest items, behind one protocol; a URL chooses the adapter."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from service.errors import StartupError
from service.history.memory import MemoryHistoryStore
from service.history.sqlite import SqliteHistoryStore
from service.settings import without_password


class HistoryStore(Protocol):
    """Each user's latest max_items item ids, oldest first; a user without any has the empty list.

    Every method but close raises HistoryStoreError when the store fails. None blocks the event
    loop for longer than some microseconds a user.
    """

    async def get_many(self, user_ids: Sequence[str]) -> list[list[str]]:
        """The histories of these users, in their order, in one round trip."""
        ...

    async def append(self, user_id: str, item_ids: Sequence[str]) -> None:
        """Add the newest items, atomically, and forget the oldest beyond max_items."""
        ...

    async def import_many(
        self, histories: Sequence[tuple[str, Sequence[str]]], *, replace: bool
    ) -> int:
        """Write whole histories in one transaction; the number of users written.

        Unless `replace`, a user who has a history keeps it: importing twice is importing once.
        """
        ...

    async def delete(self, user_id: str) -> bool:
        """Forget the user; whether there was anything to forget."""
        ...

    async def count(self) -> int:
        """The number of users with a history."""
        ...

    async def close(self) -> None:
        """Let go of files and connections; the store is of no use afterwards."""
        ...


def open_store(url: str, *, max_items: int) -> HistoryStore:
    """The store at this URL, or StartupError in one line.

    sqlite:///relative/path, sqlite:////absolute/path or memory://.
    """
    if url == "memory://":
        return MemoryHistoryStore(max_items)
    path = url.removeprefix("sqlite:///")
    if path and path != url:
        return SqliteHistoryStore.open(Path(path), max_items=max_items)
    raise StartupError(
        f"history store {without_password(url)!r}: expected sqlite:///PATH or memory://"
    )
