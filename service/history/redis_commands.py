"""What the history store asks of a Redis: commands in one round trip, and every error translated.

What is set and why: short timeouts, one retry after some milliseconds, a bound on connections, and
none of redis-py's patience (10 retries, 5 seconds).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

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
    def script(cls, sha: str, keys: Sequence[bytes], *args: Any) -> "Command":
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


async def with_scripts(
    ask: Callable[[Sequence[Command]], Awaitable[list[Any]]],
    commands: Sequence[Command],
    replies: list[Any],
) -> list[Any]:
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
