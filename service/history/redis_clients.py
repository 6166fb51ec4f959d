"""One Redis or a cluster of them, as the history store uses them: commands in one round trip.

Every error of redis-py is translated here. What is set and why: short timeouts, one retry after
some milliseconds, a bound on connections, and none of redis-py's patience (10 retries, 5 seconds).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import HistoryStoreError, StoreUnreachableError, UnreadableHistoryError
from service.history.breaker import Breaker
from service.history.scripts import SCRIPTS

MAX_CONNECTIONS = 16
RETRY_BASE_S = 0.005
RETRY_CAP_S = 0.02
TIMEOUTS_PER_CALL = 4  # a call with its retry and two connects ends within so many socket timeouts
SCAN_KEYS = 1_000
UNREACHABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    RedisClusterException,
    ClusterDownError,
    MasterDownError,
    TimeoutError,
    OSError,
)
UNREADABLE = ("UNREADABLE", "WRONGTYPE")


class Command(NamedTuple):
    """A command about one key (or several that share its slot), as it is sent."""

    key: bytes
    args: tuple[Any, ...]

    @classmethod
    def script(cls, sha: str, keys: Sequence[bytes], *args: bytes | str | int) -> "Command":
        """A script's call."""
        return cls(keys[0], ("EVALSHA", sha, len(keys), *keys, *args))

    def with_source(self) -> "Command":
        """The same call for a server that does not know the script."""
        return Command(self.key, ("EVAL", SCRIPTS[self.args[1]], *self.args[2:]))


class RedisClient(Protocol):
    """What the history store asks of a Redis or a cluster."""

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, in order, in one round trip; a HistoryStoreError stands for its reply.

        Raises StoreUnreachableError when nothing at all was answered.
        """
        ...

    async def get(self, keys: Sequence[bytes]) -> list[Any]:
        """The keys' values, None for a key that is not there; otherwise like `run`."""
        ...

    def scan(self, pattern: bytes) -> AsyncIterator[list[bytes]]:
        """The keys that match, some at a time; one may come twice while the server rehashes."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class SingleRedis:
    """One server (or what stands for one: a proxy, a replicated pair behind one address)."""

    def __init__(self, options: dict[str, Any], timeout_s: float) -> None:
        """`options` as redis-py's Connection takes them; raises TypeError for others."""
        self._timeout_s = timeout_s
        pool = BlockingConnectionPool(
            **{
                "max_connections": MAX_CONNECTIONS,
                "timeout": timeout_s / 2,
                "retry": Retry(ExponentialWithJitterBackoff(RETRY_CAP_S, RETRY_BASE_S), 1),
                **connection_options(timeout_s),
                **options,
            }
        )
        pool.connection_class(**pool.connection_kwargs)  # refuses what it does not know
        self._client = Redis.from_pool(pool)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """See RedisClient."""
        replies = await self._pipeline(commands)
        return await with_scripts(self._pipeline, commands, replies)

    async def get(self, keys: Sequence[bytes]) -> list[Any]:
        """See RedisClient; MGET takes a value of another type for none."""
        with translated():
            async with asyncio.timeout(TIMEOUTS_PER_CALL * self._timeout_s):
                values: list[Any] = await self._client.execute_command("MGET", *keys)
        return values

    async def scan(self, pattern: bytes) -> AsyncIterator[list[bytes]]:
        """See RedisClient."""
        cursor = -1
        while cursor:
            with translated():
                cursor, keys = await self._client.scan(max(cursor, 0), pattern, SCAN_KEYS)
            yield keys

    async def close(self) -> None:
        """See RedisClient."""
        await self._client.aclose(close_connection_pool=True)

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        with translated():
            async with asyncio.timeout(TIMEOUTS_PER_CALL * self._timeout_s):
                pipeline = self._client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command.args)
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


class ClusterRedis:
    """A cluster: what is asked goes to all nodes at once, and each has a breaker of its own.

    After a failure the cluster's layout is read again, for a replica may have taken over.
    """

    def __init__(
        self, hosts: Sequence[tuple[str, int]], options: dict[str, Any], timeout_s: float
    ) -> None:
        """`options` as RedisCluster takes them; raises TypeError for others."""
        self._timeout_s = timeout_s
        self._client = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in hosts],
            retry=Retry(ExponentialWithJitterBackoff(RETRY_CAP_S, RETRY_BASE_S), 0),
            **{"max_connections": MAX_CONNECTIONS, **connection_options(timeout_s), **options},
        )
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)  # a full pool raises, so wait before it
        self._breakers: dict[str, Breaker] = {}
        self._layout_is_old = False

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """See RedisClient."""
        replies = await self._twice(commands)
        return await with_scripts(self._twice, commands, replies)

    async def get(self, keys: Sequence[bytes]) -> list[Any]:
        """See RedisClient."""
        return await self.run([Command(key, ("GET", key)) for key in keys])

    async def scan(self, pattern: bytes) -> AsyncIterator[list[bytes]]:
        """See RedisClient."""
        with translated():
            await self._read_layout()
        for node in self._client.get_primaries():
            cursor = -1
            while cursor:
                with translated():
                    reply = await node.execute_command(
                        "SCAN", max(cursor, 0), "MATCH", pattern, "COUNT", SCAN_KEYS
                    )
                cursor, keys = int(reply[0]), reply[1]
                yield keys

    async def close(self) -> None:
        """See RedisClient."""
        await self._client.aclose()

    async def _twice(self, commands: Sequence[Command]) -> list[Any]:
        """The replies; what a node did not answer is sent once more."""
        replies = await self._once(commands)
        lost = [at for at, reply in enumerate(replies) if isinstance(reply, StoreUnreachableError)]
        if lost:
            await asyncio.sleep(random.uniform(RETRY_BASE_S, RETRY_CAP_S))  # noqa: S311  # no secret
            again = await self._once([commands[at] for at in lost])
            for at, reply in zip(lost, again, strict=True):
                replies[at] = reply
        if len(lost) == len(replies) and isinstance(replies[0], StoreUnreachableError):
            raise replies[0]
        return replies

    async def _once(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, each node's part sent to it at the same time as the others'."""
        replies: list[Any] = [StoreUnreachableError("No node has this slot.")] * len(commands)
        try:
            with translated():
                async with self._places, asyncio.timeout(self._timeout_s * TIMEOUTS_PER_CALL / 2):
                    await self._read_layout()
                    parts = self._by_node(commands)
                    calls = [self._ask(node, [commands[at] for at in p]) for node, p in parts]
                    answers = await asyncio.gather(*calls)
        except StoreUnreachableError as error:
            return [error] * len(commands)
        for (_, part), answer in zip(parts, answers, strict=True):
            for at, reply in zip(part, answer, strict=True):
                replies[at] = reply
        return replies

    async def _read_layout(self) -> None:
        """Learn which node has which slots, if that is not known."""
        await self._client.initialize()
        if self._layout_is_old:
            await self._client.nodes_manager.initialize()
            self._layout_is_old = False

    def _by_node(self, commands: Sequence[Command]) -> list[tuple[ClusterNode, list[int]]]:
        """Each node with the commands (their places) that are its own."""
        parts: dict[str, tuple[ClusterNode, list[int]]] = {}
        for at, command in enumerate(commands):
            slot = self._client.keyslot(command.key)
            node = self._client.nodes_manager.get_node_from_slot(slot)
            parts.setdefault(node.name, (node, []))[1].append(at)
        return list(parts.values())

    async def _ask(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        """One node's replies; the error for all of them when it does not answer."""
        breaker = self._breakers.setdefault(node.name, Breaker(node.name))
        if not breaker.allows():
            self._layout_is_old = True
            error = StoreUnreachableError(f"Node {node.name} failed lately and is left alone.")
            return [error] * len(commands)
        answered = False
        try:
            with translated():
                pipeline = self._client.pipeline()
                for command in commands:
                    pipeline.execute_command(*command.args, target_nodes=node)
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except StoreUnreachableError as error:
            return [error] * len(commands)
        else:
            answered = not any(isinstance(reply, UNREACHABLE) for reply in replies)
            return [store_error(r) if isinstance(r, UNREACHABLE) else r for r in replies]
        finally:
            breaker.note(answered=answered)
            self._layout_is_old |= not answered


async def with_scripts(ask: Any, commands: Sequence[Command], replies: list[Any]) -> list[Any]:
    """The replies, those of unknown scripts asked for again with their text, errors translated."""
    unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        again = await ask([commands[at].with_source() for at in unknown])
        for at, reply in zip(unknown, again, strict=True):
            replies[at] = reply
    return [store_error(reply) if isinstance(reply, Exception) else reply for reply in replies]


def connection_options(timeout_s: float) -> dict[str, Any]:
    """What every connection is opened with: bytes in and out, and nothing said that costs time."""
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 15,
        "protocol": 2,
        "driver_info": None,
    }


def store_error(error: Exception) -> HistoryStoreError:
    """What callers see of a failure."""
    if isinstance(error, HistoryStoreError):
        return error
    if isinstance(error, UNREACHABLE):
        return StoreUnreachableError(f"The history store did not answer: {error}")
    if isinstance(error, ResponseError) and str(error).startswith(UNREADABLE):
        return UnreadableHistoryError(f"A stored history is none: {error}")
    return HistoryStoreError(f"The history store failed: {error}")


@contextmanager
def translated() -> Iterator[None]:
    """Turn redis-py's errors into HistoryStoreError."""
    try:
        yield
    except (RedisError, *UNREACHABLE) as error:
        raise store_error(error) from error
