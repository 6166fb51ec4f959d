"""The shared history store: Redis or Valkey (7.0 or newer), one server or a cluster.

Keys, `stamp` being the prefix and `ann` a user id with %, { and } percent-encoded:

    stamp:h:{ann}   string: the history as packing.py lays it out
    stamp:t:{ann}   sorted set: tokens of appended items, by the second in which to forget them
    stamp:c:KEY     string: the fingerprint of the request with this idempotency key
    stamp:items     hash: item key -> item id, for all users; never forgotten

An item's key is drawn from its id's hash, and from the next part of it should another item have
that key. So it is the same again after the server lost what it heard last.
"""

import hashlib
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from secrets import token_bytes
from typing import Any
from urllib.parse import unquote

from service.errors import HistoryStoreError, StoreUnreachableError, UnreadableHistoryError
from service.history.packing import pack, unpack
from service.history.redis_commands import Command, RedisClient
from service.history.scripts import APPEND_SHA, CLAIM_SHA, NUM_CANDIDATES, REGISTER_SHA
from service.history.store import EXPORT_USERS, REMEMBER_S, Append, HistoryStore

GUARD_S = 10  # longer than any call with its retry
CHUNK = 128  # users, or items, in one round trip of a write
MAX_CACHED_ITEMS = 1_000_000
TRUST_S = 60  # then items are registered again: the server may have restarted unnoticed


class RedisHistoryStore(HistoryStore):
    """Histories behind a RedisClient; item keys and ids are kept in this process, too."""

    def __init__(
        self,
        client: RedisClient,
        *,
        max_items: int,
        prefix: str,
        ttl_s: int | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._max_items = max_items
        self._prefix = prefix.encode()
        self._ttl_s = ttl_s
        self._clock = clock
        self._registry = self._prefix + b":items"
        self._ids: dict[int, str] = {}
        self._keys: dict[str, int] = {}  # dropped when the server may have lost something
        self._keys_until_s = 0.0

    async def get_many(self, user_ids: Sequence[str]) -> list[list[str] | None]:
        """See HistoryStore."""
        if not user_ids:
            return []
        keys = [self._key_of("h", user_id) for user_id in user_ids]
        return await self._read(await self._answered(self._client.get(keys)))

    async def append_many(self, appends: Sequence[Append]) -> list[int | HistoryStoreError]:
        """See HistoryStore."""
        appended: list[int | HistoryStoreError] = []
        for first in range(0, len(appends), CHUNK):
            try:
                appended += await self._append_chunk(appends[first : first + CHUNK])
            except HistoryStoreError as error:
                if first == 0:
                    raise
                return [*appended, *[error] * (len(appends) - first)]
        return appended

    async def claim(self, key: bytes, fingerprint: bytes) -> bool:
        """See HistoryStore."""
        name = self._prefix + b":c:" + key.hex().encode()
        (first,) = await self._run(Command.script(CLAIM_SHA, [name], fingerprint, REMEMBER_S))
        return bool(first == fingerprint)

    async def import_many(
        self, histories: Sequence[tuple[str, Sequence[str]]], *, replace: bool
    ) -> int:
        """See HistoryStore."""
        options = () if replace else ("NX",)
        if self._ttl_s is not None:
            options = (*options, "EX", self._ttl_s)
        num_written = 0
        for first in range(0, len(histories), CHUNK):
            chunk = histories[first : first + CHUNK]
            newest = [item_ids[-self._max_items :] for _, item_ids in chunk]
            key_of = await self._registered(item_id for item_ids in newest for item_id in item_ids)
            commands = []
            for (user_id, _), item_ids in zip(chunk, newest, strict=True):
                key = self._key_of("h", user_id)
                packed = pack([key_of[item_id] for item_id in item_ids])
                commands.append(Command(key, ("SET", key, packed, *options)))
            num_written += sum(reply is not None for reply in await self._run(*commands))
        return num_written

    async def export(self) -> AsyncIterator[list[tuple[str, list[str] | None]]]:
        """See HistoryStore; a user may come twice while the server rehashes."""
        async for keys in self._client.scan(self._pattern()):
            for first in range(0, len(keys), EXPORT_USERS):
                chunk = keys[first : first + EXPORT_USERS]
                histories = await self._read(await self._client.get(chunk))
                yield list(zip(map(self._user_of, chunk), histories, strict=True))

    async def delete(self, user_id: str) -> bool:
        """See HistoryStore."""
        tokens, history = (self._key_of(kind, user_id) for kind in "th")
        replies = await self._run(*(Command(key, ("UNLINK", key)) for key in (tokens, history)))
        return bool(replies[1])

    async def count(self) -> int:
        """See HistoryStore; reads every key's name."""
        return sum([len(keys) async for keys in self._client.scan(self._pattern())])

    async def close(self) -> None:
        """See HistoryStore."""
        await self._client.close()

    async def _read(self, values: Sequence[Any]) -> list[list[str] | None]:
        """The histories behind a client's replies; StoreUnreachableError if none was answered."""
        if all(isinstance(value, StoreUnreachableError) for value in values) and values:
            raise values[0]
        unpacked = [_unpacked(value) for value in values]
        id_of = await self._named({key for keys in unpacked for key in keys or ()})
        return [
            None
            if keys is None or not all(key in id_of for key in keys)
            else [id_of[key] for key in keys]
            for keys in unpacked
        ]

    async def _named(self, keys: set[int]) -> dict[int, str]:
        """The ids of these keys' items; a key that is nobody's is left out."""
        if len(self._ids) > MAX_CACHED_ITEMS:
            self._ids.clear()
        known = {key: self._ids[key] for key in keys if key in self._ids}
        if new := [key for key in keys if key not in known]:
            (ids,) = await self._run(Command(self._registry, ("HMGET", self._registry, *new)))
            pairs = zip(new, ids, strict=True)
            learned = {key: item_id.decode() for key, item_id in pairs if item_id is not None}
            self._ids |= learned
            known |= learned
        return known

    async def _append_chunk(self, appends: Sequence[Append]) -> list[int | HistoryStoreError]:
        """As append_many, in two round trips: one for items that are new, one for the histories."""
        key_of = await self._registered(item.item_id for append in appends for item in append.items)
        now, ttl_s = int(self._clock()), self._ttl_s or 0
        commands = []
        for user_id, items in appends:
            names = [self._key_of(kind, user_id) for kind in "ht"]
            settings = (self._max_items, ttl_s, now, REMEMBER_S, token_bytes(16), GUARD_S)
            new: list[bytes] = []
            for item_id, token in items:
                new += (struct.pack("<i", key_of[item_id]), token or b"")
            commands.append(Command.script(APPEND_SHA, names, *settings, *new))
        return await self._answered(self._client.run(commands))

    async def _registered(self, item_ids: Iterable[str]) -> dict[str, int]:
        """The items' keys, made for new items."""
        if self._clock() >= self._keys_until_s or len(self._keys) > MAX_CACHED_ITEMS:
            self._keys.clear()
            self._keys_until_s = self._clock() + TRUST_S
        wanted = dict.fromkeys(item_ids)
        known = {item_id: self._keys[item_id] for item_id in wanted if item_id in self._keys}
        new = [item_id for item_id in wanted if item_id not in known]
        for first in range(0, len(new), CHUNK):
            chunk = new[first : first + CHUNK]
            args = [arg for item_id in chunk for arg in (item_id, *candidates(item_id))]
            (keys,) = await self._run(Command.script(REGISTER_SHA, [self._registry], *args))
            if b"" in keys:
                raise HistoryStoreError("The history store has no key left for an item.")
            made = dict(zip(chunk, map(int, keys), strict=True))
            self._keys |= made
            known |= made
        return known

    async def _run(self, *commands: Command) -> list[Any]:
        """The replies, or the first error among them."""
        replies = await self._answered(self._client.run(commands))
        for reply in replies:
            if isinstance(reply, HistoryStoreError):
                raise reply
        return replies

    async def _answered(self, call: Awaitable[list[Any]]) -> list[Any]:
        """The replies; after any failure to answer, items are registered anew."""
        answered = False
        try:
            replies = await call
            answered = not any(isinstance(reply, StoreUnreachableError) for reply in replies)
        finally:
            if not answered:
                self._keys.clear()
        return replies

    def _pattern(self) -> bytes:
        return self._prefix + b":h:*"

    def _key_of(self, kind: str, user_id: str) -> bytes:
        """The user's key: in braces what decides on its slot, never empty."""
        escaped = user_id.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") or "%"
        return b"%b:%b:{%b}" % (self._prefix, kind.encode(), escaped.encode())

    def _user_of(self, key: bytes) -> str:
        """The user whose key it is."""
        escaped = key[len(self._prefix) + 4 : -1].decode()
        return "" if escaped == "%" else unquote(escaped)


def candidates(item_id: str) -> tuple[int, ...]:
    """The keys the item may have, the first choice first; each in [0, 2^31)."""
    digest = hashlib.blake2b(item_id.encode(), digest_size=4 * NUM_CANDIDATES).digest()
    return tuple(word & 0x7FFF_FFFF for word in struct.unpack(f"<{NUM_CANDIDATES}I", digest))


def _unpacked(value: bytes | HistoryStoreError | None) -> tuple[int, ...] | None:
    """The keys in a client's reply, None if it cannot be read."""
    if isinstance(value, HistoryStoreError):
        return None
    try:
        return unpack(value) if value is not None else ()
    except UnreadableHistoryError:
        return None
