"""A cluster of Redis servers: what is asked goes to all nodes at once."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.errors import StoreUnreachableError
from service.history.breaker import Breaker
from service.history.redis_commands import (
    MAX_CONNECTIONS,
    RETRY_BASE_S,
    RETRY_CAP_S,
    SCAN_KEYS,
    UNREACHABLE,
    Command,
    connection_options,
    store_error,
    translated,
    with_scripts,
)


class ClusterRedis:
    """The nodes and the connections to them; each node has a breaker of its own.

    After a failure the cluster's layout is read again, for a replica may have taken over.
    """

    def __init__(
        self, hosts: Sequence[tuple[str, int]], options: dict[str, Any], timeout_s: float
    ) -> None:
        """`options` as RedisCluster takes them; raises TypeError for others."""
        self._timeout_s = timeout_s
        self._client = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in hosts],
            retry=Retry(NoBackoff(), 0),
            **{"max_connections": MAX_CONNECTIONS, **connection_options(timeout_s), **options},
        )
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)  # a full pool raises, so wait before it
        self._breakers: dict[str, Breaker] = {}
        self._failed_node: str | None = None  # since the layout was read

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
        replies: list[Any] = [None] * len(commands)
        try:
            with translated():
                async with asyncio.timeout(self._timeout_s):
                    await self._read_layout()
                parts = self._by_node(commands)
        except StoreUnreachableError as error:
            return [error] * len(commands)
        calls = [self._ask(node, [commands[at] for at in part]) for node, part in parts]
        for (_, part), answer in zip(parts, await asyncio.gather(*calls), strict=True):
            for at, reply in zip(part, answer, strict=True):
                replies[at] = reply
        return replies

    async def _read_layout(self) -> None:
        """Learn which node has which slots, if that is not known."""
        await self._client.initialize()
        if self._failed_node is not None:
            await self._client.nodes_manager.initialize(last_failed_node_name=self._failed_node)
            self._failed_node = None

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
            self._failed_node = node.name
            error = StoreUnreachableError(f"Node {node.name} failed lately and is left alone.")
            return [error] * len(commands)
        answered = False
        try:
            with translated():
                async with asyncio.timeout(1.5 * self._timeout_s), self._places:
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
            if not answered:
                self._failed_node = node.name
