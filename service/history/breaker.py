"""A circuit breaker: who failed five times in a row is left alone for two seconds, then tried once.

closed -> open after MAX_FAILURES in a row; open -> half_open after OPEN_S, for one call; from there
to closed if that call is answered, else back to open.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from service.errors import HistoryStoreError, StoreUnreachableError
from service.history.store import Append, BreakerState, HistoryStore

MAX_FAILURES = 5
OPEN_S = 2.0

ResultT = TypeVar("ResultT")

log = structlog.get_logger()


class Breaker:
    """Counts failures in a row; `clock` in seconds."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.state: BreakerState = "closed"
        self._name = name
        self._clock = clock
        self._num_failures = 0
        self._opened_s = 0.0

    def allows(self) -> bool:
        """Whether to make a call now; whoever makes it says to `note` how it went."""
        if self.state == "open" and self._clock() - self._opened_s >= OPEN_S:
            self.state = "half_open"
            return True
        return self.state == "closed"

    def note(self, *, answered: bool) -> None:
        """How a call went."""
        if answered:
            self._num_failures = 0
            if self.state != "closed":
                self.state = "closed"
                log.info("history_breaker_closed", store=self._name)
            return
        self._num_failures += 1
        if self.state == "half_open" or self._num_failures == MAX_FAILURES:
            if self.state == "closed":
                log.warning("history_breaker_opened", store=self._name)
            self.state = "open"
            self._opened_s = self._clock()


class GuardedHistoryStore(HistoryStore):
    """A store behind a breaker, whose calls are always finished, even if the caller is cancelled.

    Only a store that does not answer opens the breaker: one that answers with an error is fast.
    """

    def __init__(self, store: HistoryStore, breaker: Breaker) -> None:
        self._store = store
        self._breaker = breaker
        self._calls: set[asyncio.Task[Any]] = set()

    @property
    def breaker_state(self) -> BreakerState:
        """See HistoryStore."""
        return self._breaker.state

    async def get_many(self, user_ids: Sequence[str]) -> list[list[str] | None]:
        """See HistoryStore."""
        return await self._guarded(partial(self._store.get_many, user_ids))

    async def append_many(self, appends: Sequence[Append]) -> list[int | HistoryStoreError]:
        """See HistoryStore."""
        return await self._guarded(partial(self._store.append_many, appends))

    async def claim(self, key: bytes, fingerprint: bytes) -> bool:
        """See HistoryStore."""
        return await self._guarded(partial(self._store.claim, key, fingerprint))

    async def import_many(
        self, histories: Sequence[tuple[str, Sequence[str]]], *, replace: bool
    ) -> int:
        """See HistoryStore."""
        return await self._guarded(partial(self._store.import_many, histories, replace=replace))

    def export(self) -> AsyncIterator[list[tuple[str, list[str] | None]]]:
        """See HistoryStore; this one is not guarded."""
        return self._store.export()

    async def delete(self, user_id: str) -> bool:
        """See HistoryStore."""
        return await self._guarded(partial(self._store.delete, user_id))

    async def count(self) -> int:
        """See HistoryStore."""
        return await self._guarded(self._store.count)

    async def close(self) -> None:
        """See HistoryStore."""
        if self._calls:
            await asyncio.wait(self._calls)
        await self._store.close()

    async def _guarded(self, call: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """The call's result, unless the breaker is open."""
        if not self._breaker.allows():
            raise StoreUnreachableError("The history store failed lately and is left alone.")
        task = asyncio.create_task(self._watched(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await asyncio.shield(task)

    async def _watched(self, call: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Make the call and tell the breaker how it went."""
        answered = False
        try:
            result = await call()
        except HistoryStoreError as error:
            answered = not isinstance(error, StoreUnreachableError)
            raise
        else:
            answered = True
            return result
        finally:
            self._breaker.note(answered=answered)
