"""The history store in this process's memory: for tests and benchmarks, lost at exit."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice

from service.errors import HistoryStoreError
from service.history.store import EXPORT_USERS, REMEMBER_S, Append, HistoryStore


class MemoryHistoryStore(HistoryStore):
    """A dict from user id to item ids, oldest first, and what was applied when."""

    def __init__(self, max_items: int, clock: Callable[[], float] = time.time) -> None:
        self._max_items = max_items
        self._clock = clock
        self._histories: dict[str, list[str]] = {}
        self._tokens: dict[tuple[str, bytes], float] = {}  # when to forget it, oldest first
        self._claims: dict[bytes, tuple[bytes, float]] = {}  # the same, behind the fingerprint

    async def get_many(self, user_ids: Sequence[str]) -> list[list[str] | None]:
        """See HistoryStore."""
        return [list(self._histories.get(user_id, ())) for user_id in user_ids]

    async def append_many(self, appends: Sequence[Append]) -> list[int | HistoryStoreError]:
        """See HistoryStore."""
        now = self._clock()
        self._forget(now)
        appended: list[int | HistoryStoreError] = []
        for user_id, items in appends:
            new = []
            for item_id, token in items:
                if token is None or (user_id, token) not in self._tokens:
                    new.append(item_id)
                if token is not None:
                    self._tokens.setdefault((user_id, token), now + REMEMBER_S)
            if new:
                history = [*self._histories.get(user_id, ()), *new]
                self._histories[user_id] = history[-self._max_items :]
            appended.append(len(new))
        return appended

    async def claim(self, key: bytes, fingerprint: bytes) -> bool:
        """See HistoryStore."""
        now = self._clock()
        self._forget(now)
        return self._claims.setdefault(key, (fingerprint, now + REMEMBER_S))[0] == fingerprint

    async def import_many(
        self, histories: Sequence[tuple[str, Sequence[str]]], *, replace: bool
    ) -> int:
        """See HistoryStore."""
        num_written = 0
        for user_id, item_ids in histories:
            if replace or user_id not in self._histories:
                self._histories[user_id] = list(item_ids[-self._max_items :])
                num_written += 1
        return num_written

    async def export(self) -> AsyncIterator[list[tuple[str, list[str] | None]]]:
        """See HistoryStore."""
        everyone = iter(list(self._histories.items()))
        while chunk := list(islice(everyone, EXPORT_USERS)):
            yield [(user_id, list(history)) for user_id, history in chunk]

    async def delete(self, user_id: str) -> bool:
        """See HistoryStore."""
        self._tokens = {key: until for key, until in self._tokens.items() if key[0] != user_id}
        return self._histories.pop(user_id, None) is not None

    async def count(self) -> int:
        """See HistoryStore."""
        return len(self._histories)

    async def close(self) -> None:
        """See HistoryStore."""
        self._histories.clear()

    def _forget(self, now: float) -> None:
        """Drop the tokens and claims whose time is over; they stand in the order of their times."""
        while self._tokens and next(iter(self._tokens.values())) <= now:
            del self._tokens[next(iter(self._tokens))]
        while self._claims and next(iter(self._claims.values()))[1] <= now:
            del self._claims[next(iter(self._claims))]
