"""At most so many requests a second, minute, hour or day, for each API key or client address."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import ConfigurationError, StorageError
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api_keys import is_open
from service.errors import RateLimitedError, StartupError
from service.logs import record_of
from service.problems import problem_response
from service.settings import Settings, without_password

REDIS_TIMEOUT_S = 0.1
PAUSE_S = 1.0  # after a failure of the storage, until it is tried again
REDIS_CONNECTIONS = 16

log = structlog.get_logger()


class WindowStorage(Storage):
    """Counts in memory; the library's own looks at every key on every request.

    A window begins with a client's first request, and all are equally long: the oldest end first.

    Args:
        clock: seconds since the epoch.
    """

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[str, tuple[int, float]] = {}  # requests, end; the first ends first

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """Nothing here fails."""
        return ()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Requests in the key's window, these included."""
        now = self._clock()
        self._forget(now)
        count, end = self._windows.get(key, (0, now + expiry))
        self._windows[key] = (count + amount, end)
        return count + amount

    async def get(self, key: str) -> int:
        """Requests in the key's window."""
        self._forget(self._clock())
        return self._windows.get(key, (0, 0.0))[0]

    async def get_expiry(self, key: str) -> float:
        """When the key's window ends; now if there is none."""
        return self._windows.get(key, (0, self._clock()))[1]

    async def check(self) -> bool:
        """Memory is there."""
        return True

    async def reset(self) -> int:
        """Forget every window; how many there were."""
        num_windows = len(self._windows)
        self._windows.clear()
        return num_windows

    async def clear(self, key: str) -> None:
        """Forget one window."""
        self._windows.pop(key, None)

    def _forget(self, now: float) -> None:
        """Drop the windows that have ended."""
        while self._windows:
            key = next(iter(self._windows))
            if self._windows[key][1] > now:
                return
            del self._windows[key]


class Limiter:
    """One limit for each of many; while its storage fails, everybody is let in."""

    def __init__(
        self, limit: RateLimitItem, storage: Storage, pool: BlockingConnectionPool | None = None
    ) -> None:
        self._limit = limit
        self._windows = FixedWindowRateLimiter(storage)
        self._pool = pool
        self._failing = False
        self._resume_s = 0.0

    @classmethod
    def open(cls, settings: Settings) -> "Limiter | None":
        """The limiter that the settings ask for, if any, or StartupError."""
        if settings.rate_limit is None:
            return None
        limit = parse(settings.rate_limit)
        if settings.rate_limit_url == "memory://":
            return cls(limit, WindowStorage())
        try:
            pool = _pool(settings.rate_limit_url)
            storage = RedisStorage(
                settings.rate_limit_url,
                wrap_exceptions=True,
                implementation="redispy",
                connection_pool=pool,  # type: ignore[arg-type]  # as the library documents it
            )
        except (ConfigurationError, ValueError):
            shown = without_password(settings.rate_limit_url)
            raise StartupError(
                f"rate limit store {shown!r}: expected memory:// or redis://HOST:PORT"
            ) from None  # the library's message holds the password
        return cls(limit, storage, pool)

    async def retry_after_s(self, who: str) -> float | None:
        """Count a request; None if it is within the limit, else how long to wait."""
        if time.monotonic() < self._resume_s:
            return None
        try:
            if await self._windows.hit(self._limit, who):
                self._failing = False
                return None
            stats = await self._windows.get_window_stats(self._limit, who)
        except StorageError as error:
            if not self._failing:
                log.warning("rate_limit_store_failed", error=str(error))
            self._failing = True
            self._resume_s = time.monotonic() + PAUSE_S
            return None
        return max(0.0, stats.reset_time - time.time())

    async def close(self) -> None:
        """Let go of connections."""
        if self._pool is not None:
            await self._pool.disconnect()


@dataclass(frozen=True)
class RateLimit:
    """Refuse requests over the limit of their key, or of their address where there are no keys."""

    app: ASGIApp
    limiter: Limiter
    public_docs: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass on what is none."""
        if scope["type"] != "http" or is_open(scope["path"], public_docs=self.public_docs):
            await self.app(scope, receive, send)
            return
        address, _ = scope.get("client") or ("unknown", 0)
        wait_s = await self.limiter.retry_after_s(record_of(scope).fields.get("key_id", address))
        if wait_s is None:
            await self.app(scope, receive, send)
            return
        refused = RateLimitedError("Too many requests; wait.", retry_after_s=max(1.0, wait_s))
        await problem_response(scope, refused)(scope, receive, send)


def _pool(url: str) -> BlockingConnectionPool:
    """Connections that fail fast: a limit is not worth waiting for."""
    return BlockingConnectionPool.from_url(
        url,
        max_connections=REDIS_CONNECTIONS,
        timeout=REDIS_TIMEOUT_S,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
