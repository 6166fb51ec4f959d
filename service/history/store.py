"""HistoryStore: what every history store promises, whatever it is made of."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, NamedTuple, Protocol

from service.errors import HistoryStoreError

REMEMBER_S = 86_400  # for how long tokens and idempotency keys are known again
EXPORT_USERS = 1_000

BreakerState = Literal["closed", "open", "half_open"]


class NewItem(NamedTuple):
    """An item to append; one with a token (16 bytes) the user had within REMEMBER_S is left out."""

    item_id: str
    token: bytes | None = None


class Append(NamedTuple):
    """What one user's history gets, oldest first."""

    user_id: str
    items: Sequence[NewItem]


class HistoryStore(Protocol):
    """Each user's latest max_items item ids, oldest first; a user without any has the empty list.

    Every method but close raises HistoryStoreError when the store fails, StoreUnreachableError when
    it does not answer. None blocks the event loop for longer than some microseconds a user.
    """

    @property
    def breaker_state(self) -> BreakerState:
        """Whether the store is asked at all: not while `open`, by one call while `half_open`."""
        return "closed"

    async def get_many(self, user_ids: Sequence[str]) -> list[list[str] | None]:
        """The histories of these users, in their order, in one round trip.

        None stands for a history that cannot be read, be it damaged or out of reach.
        """
        ...

    async def append_many(self, appends: Sequence[Append]) -> list[int | HistoryStoreError]:
        """Add the newest items and forget the oldest beyond max_items; no user comes twice.

        For each user, in order, all of it is done, and the number of items that were new (not known
        by their tokens) is returned; or none of it, and there is an error. A StoreUnreachableError
        leaves open which. Raises when nothing was done for any user.
        """
        ...

    async def append(self, user_id: str, item_ids: Sequence[str]) -> None:
        """Add the newest items of one user, whether they came before or not."""
        items = [NewItem(item_id) for item_id in item_ids]
        (appended,) = await self.append_many([Append(user_id, items)])
        if isinstance(appended, HistoryStoreError):
            raise appended

    async def claim(self, key: bytes, fingerprint: bytes) -> bool:
        """Keep the fingerprint under the key; False when another one came within REMEMBER_S.

        Both are 16 bytes.
        """
        ...

    async def import_many(
        self, histories: Sequence[tuple[str, Sequence[str]]], *, replace: bool
    ) -> int:
        """Write whole histories, each user's atomically; the number of users written.

        Unless `replace`, a user who has a history keeps it: importing twice is importing once.
        """
        ...

    def export(self) -> AsyncIterator[list[tuple[str, list[str] | None]]]:
        """Every user with their history, EXPORT_USERS at a time, in no order; None as in get_many.

        What is written meanwhile may be in it or not.
        """
        ...

    async def delete(self, user_id: str) -> bool:
        """Forget the user, tokens included; whether there was a history to forget."""
        ...

    async def count(self) -> int:
        """The number of users with a history."""
        ...

    async def close(self) -> None:
        """Let go of files and connections; the store is of no use afterwards."""
        ...
