"""Histories: each user's latest items, behind one protocol; a URL chooses the adapter."""

import time
from collections.abc import Callable
from pathlib import Path

from service.errors import StartupError
from service.history.memory import MemoryHistoryStore
from service.history.redis_url import SCHEMES, open_redis
from service.history.sqlite import SqliteHistoryStore
from service.history.store import HistoryStore as HistoryStore
from service.settings import without_password


def open_store(
    url: str, *, max_items: int, clock: Callable[[], float] = time.time, patience: int = 1
) -> HistoryStore:
    """The store at this URL, or StartupError in one line.

    sqlite:///relative/path, sqlite:////absolute/path, memory://, or what redis_url.py takes.
    `clock` tells the time by which tokens are forgotten; `patience` multiplies a Redis's timeouts.
    """
    if url == "memory://":
        return MemoryHistoryStore(max_items, clock)
    if url.partition("://")[0] in SCHEMES:
        return open_redis(url, max_items=max_items, clock=clock, patience=patience)
    path = url.removeprefix("sqlite:///")
    if path and path != url:
        return SqliteHistoryStore.open(Path(path), max_items=max_items, clock=clock)
    expected = "sqlite:///PATH, memory://, redis://HOST or redis+cluster://HOST"
    raise StartupError(f"history store {without_password(url)!r}: expected {expected}")
