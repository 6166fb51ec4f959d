"""The service over HTTP: whether it is ready, what it offers, and users for it."""

import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import polars as pl
from polars.exceptions import PolarsError

from loadtest.errors import LoadTestError
from loadtest.traffic import Visitor

TIMEOUT_S = 30.0
POLL_S = 0.2
PAGE = 1_000
MOST_ITEMS = 5_000
MOST_VISITORS = 50_000
MOST_HISTORY = 100
MOST_EVENTS = 1_000
MADE_UP = 200
MADE_UP_ITEMS = (2, 40)
OWN_COLUMNS = {"item_id", "title", "popularity"}


@dataclass(frozen=True)
class Target:
    """A service's address, and a key if it wants one."""

    url: str
    key: str | None = None

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of a 2xx answer, None without a body; LoadTestError for anything else."""
        parts = self._parts()
        kind = HTTPConnection if parts.scheme == "http" else HTTPSConnection
        connection = kind(str(parts.hostname), parts.port, timeout=TIMEOUT_S)
        headers = {"Content-Type": "application/json"}
        if self.key is not None:
            headers["X-API-Key"] = self.key
        payload = None if body is None else json.dumps(body)
        try:
            connection.request(method, parts.path.rstrip("/") + path, payload, headers)
            response = connection.getresponse()
            content = response.read()
            if not 200 <= response.status < 300:
                raise LoadTestError(f"{method} {self.url}{path}: status {response.status}")
            return json.loads(content) if content else None
        except (OSError, HTTPException, ValueError) as error:
            raise LoadTestError(f"{method} {self.url}{path}: {error}") from error
        finally:
            connection.close()

    def _parts(self) -> SplitResult:
        """The address in parts, or LoadTestError."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise LoadTestError(f"{self.url}: not an address; expected e.g. http://127.0.0.1:8000")
        return parts

    def until_ready(self, timeout_s: float, alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until the service says it is ready; LoadTestError if it is not in time, or gone."""
        self._parts()
        end_s = time.monotonic() + timeout_s
        while True:
            with suppress(LoadTestError, socket.timeout):
                self.call("GET", "/health/ready")
                return
            if not alive():
                raise LoadTestError("the service ended before it was ready; see service.log")
            if time.monotonic() > end_s:
                raise LoadTestError(f"{self.url} was not ready within {timeout_s:g} s")
            time.sleep(POLL_S)

    def items(self) -> list[dict[str, Any]]:
        """The catalog's first items, MOST_ITEMS at most; only those that can be recommended."""
        found: list[dict[str, Any]] = []
        for offset in range(0, MOST_ITEMS, PAGE):
            page = self.call("GET", f"/items?limit={PAGE}&offset={offset}")["items"]
            found += page
            if len(page) < PAGE:
                break
        return [item for item in found if item["available"]]

    def write(self, visitors: Sequence[Visitor]) -> None:
        """Append the visitors' items to their histories."""
        events = [
            {"user_id": user_id, "item_id": item_id}
            for user_id, item_ids in visitors
            for item_id in item_ids
        ]
        for first in range(0, len(events), MOST_EVENTS):
            self.call("POST", "/events", {"events": events[first : first + MOST_EVENTS]})

    def forget(self, visitors: Sequence[Visitor]) -> None:
        """Delete the visitors' histories."""
        for visitor in visitors:
            self.call("DELETE", f"/users/{quote(visitor.user_id, safe='')}/history")


def read_visitors(path: Path, seed: int) -> list[Visitor]:
    """Real users, those with the longest histories first; LoadTestError for a bad file.

    Args:
        path: parquet of user_id and item_ids, oldest first, as `import-histories` reads it.
        seed: of the order among users of equally long histories.
    """
    try:
        frame = pl.read_parquet(path, columns=["user_id", "item_ids"], glob=False)
        frame = frame.cast({"user_id": pl.String, "item_ids": pl.List(pl.String)})
    except (OSError, PolarsError) as error:
        raise LoadTestError(f"{path}: not a parquet file of user_id and item_ids") from error
    order = (
        frame.drop_nulls()
        .filter(pl.col("item_ids").list.len() > 0)
        .sample(fraction=1, shuffle=True, seed=seed)
        .sort(pl.col("item_ids").list.len(), descending=True, maintain_order=True)
        .head(MOST_VISITORS)
        .with_columns(pl.col("item_ids").list.tail(MOST_HISTORY))
    )
    visitors = [Visitor(user_id, tuple(item_ids)) for user_id, item_ids in order.rows()]
    if not visitors:
        raise LoadTestError(f"{path}: no user has a history")
    return visitors


def made_up_visitors(items: Sequence[dict[str, Any]], seed: int) -> list[Visitor]:
    """Users who like what is popular, for a service of whose users nothing is known.

    Args:
        items: of the catalog, as GET /items shows them; at least one.
        seed: the same one gives the same users.
    """
    random_ = random.Random(seed)
    item_ids = [item["item_id"] for item in items]
    weights = list(accumulate(1 + item["popularity"] for item in items))
    return [
        Visitor(
            f"loadtest-{seed}-{number}",
            tuple(
                random_.choices(item_ids, cum_weights=weights, k=random_.randint(*MADE_UP_ITEMS))
            ),
        )
        for number in range(MADE_UP)
    ]


def wheres_for(items: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Conditions that hold for a part of these items: medians of numbers, commonest words."""
    conditions = [f"popularity >= {_median([item['popularity'] for item in items])}"]
    names = sorted({name for item in items for name in item["attributes"]} - OWN_COLUMNS)
    for name in names:
        values = [item["attributes"].get(name) for item in items]
        column = '"' + name.replace('"', '""') + '"'
        numbers = [value for value in values if type(value) in {int, float}]
        lists = [value for value in values if isinstance(value, list)]
        words = [word for words in lists for word in words if isinstance(word, str)]
        if numbers:
            conditions.append(f"{column} >= {_median(numbers)}")
        conditions += [
            f"array_contains({column}, {_quoted(word)})" for word in _commonest(words, 3)
        ]
    return tuple(conditions)


def _median(numbers: Sequence[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


def _commonest(words: Sequence[str], most: int) -> list[str]:
    counts = Counter(words)
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"
