"""The history store in this process's memory: for tests and benchmarks, lost at exit."""

from collections.abc import Sequence


class MemoryHistoryStore:
    """A dict from user id to item ids, oldest first."""

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._histories: dict[str, list[str]] = {}

    async def get_many(self, user_ids: Sequence[str]) -> list[list[str]]:
        """See HistoryStore."""
        return [list(self._histories.get(user_id, ())) for user_id in user_ids]

    async def append(self, user_id: str, item_ids: Sequence[str]) -> None:
        """See HistoryStore."""
        history = [*self._histories.get(user_id, ()), *item_ids]
        self._histories[user_id] = history[-self._max_items :]

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

    async def delete(self, user_id: str) -> bool:
        """See HistoryStore."""
        return self._histories.pop(user_id, None) is not None

    async def count(self) -> int:
        """See HistoryStore."""
        return len(self._histories)

    async def close(self) -> None:
        """See HistoryStore."""
        self._histories.clear()
