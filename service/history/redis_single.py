"""One Redis server, or what stands for one: a proxy, a replicated pair behind one address."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from service.history.redis_commands import (
    MAX_CONNECTIONS,
    RETRY_BASE_S,
    RETRY_CAP_S,
    SCAN_KEYS,
    TIMEOUTS_PER_CALL,
    Command,
    connection_options,
    translated,
    with_scripts,
)


class SingleRedis:
    """One server and the connections to it."""

    def __init__(self, options: dict[str, Any], timeout_s: float) -> None:
        """`options` as redis-py's Connection takes them; raises TypeError for others."""
        self._timeout_s = timeout_s
        pool = BlockingConnectionPool(
            **{
                "max_connections": MAX_CONNECTIONS,
                "timeout": TIMEOUTS_PER_CALL * timeout_s,  # to wait for a connection
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
                return await self._client.mget(keys)

    async def scan(self, pattern: bytes) -> AsyncIterator[list[bytes]]:
        """See RedisClient."""
        cursor = -1
        while cursor:
            with translated():
                cursor, keys = await self._client.scan(max(cursor, 0), pattern, SCAN_KEYS)
            yield [key for key in keys if isinstance(key, bytes)]

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
