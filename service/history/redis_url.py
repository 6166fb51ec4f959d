"""redis://, rediss://, unix://, redis+cluster:// and rediss+cluster:// -> the store behind them.

As redis-py spells them, with two options of our own in the query: `prefix` and `ttl_s`. A cluster's
URL may name several of its nodes, separated by commas.
"""

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from redis.asyncio.connection import parse_url
from redis.exceptions import RedisClusterException

from service.errors import StartupError
from service.history.breaker import Breaker, GuardedHistoryStore
from service.history.redis import RedisHistoryStore
from service.history.redis_cluster import ClusterRedis
from service.history.redis_commands import RedisClient
from service.history.redis_single import SingleRedis
from service.settings import without_password

SCHEMES = {"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"}
PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
TIMEOUT_S = 0.1


def open_redis(
    url: str, *, max_items: int, clock: Callable[[], float] = time.time, patience: int = 1
) -> GuardedHistoryStore:
    """The store at this URL, which is not asked for yet, or StartupError in one line.

    `patience` multiplies the timeouts: an import would rather wait.
    """
    try:
        own, rest = _split_options(url)
        prefix, ttl_s = _checked(own)
        client = _client(rest, TIMEOUT_S * patience)
    except (TypeError, ValueError, RedisClusterException) as error:
        raise StartupError(f"history store {without_password(url)!r}: {error}") from error
    store = RedisHistoryStore(client, max_items=max_items, prefix=prefix, ttl_s=ttl_s, clock=clock)
    return GuardedHistoryStore(store, Breaker("redis"))


def _split_options(url: str) -> tuple[dict[str, str], str]:
    """Our own options, and the URL without them."""
    address, _, query = url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    own = {name: value for name, value in options if name in {"prefix", "ttl_s"}}
    rest = urlencode([(name, value) for name, value in options if name not in own])
    return own, f"{address}?{rest}"


def _checked(own: dict[str, str]) -> tuple[str, int | None]:
    """The prefix of all keys, and for how many seconds a history is kept after its last item."""
    prefix, ttl_s = own.get("prefix", "stamp"), own.get("ttl_s")
    if not PREFIX.fullmatch(prefix):
        raise ValueError("prefix must be 1 to 64 of A-Z a-z 0-9 _ . : -")
    if ttl_s is not None and not (ttl_s.isdecimal() and 0 < int(ttl_s) < 2**31):
        raise ValueError("ttl_s must be a number of seconds, at least 1")
    return prefix, None if ttl_s is None else int(ttl_s)


def _client(url: str, timeout_s: float) -> RedisClient:
    """The client for this URL; raises TypeError or ValueError for options that do not exist."""
    scheme, _, rest = url.partition("://")
    if not scheme.endswith("+cluster"):
        return SingleRedis(_options(url), timeout_s)
    scheme = scheme.removesuffix("+cluster")
    authority, slash, path = rest.partition("/")
    login, at, hosts = authority.rpartition("@")
    nodes = [_options(f"{scheme}://{login}{at}{host}{slash}{path}") for host in hosts.split(",")]
    addresses = [(node.pop("host", "127.0.0.1"), node.pop("port", 6379)) for node in nodes]
    options = nodes[0]
    if options.pop("connection_class", None):
        options["ssl"] = True
    return ClusterRedis(addresses, options, timeout_s)


def _options(url: str) -> dict[str, Any]:
    """What redis-py reads from a URL."""
    return dict(parse_url(url))
