"""Who comes and what they ask: seeded requests of users who are drawn by Zipf's law."""

import json
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

Kind = Literal["known", "inline", "cold", "where", "events", "history"]

NAMES = {
    "known": "POST /recommend (known user)",
    "inline": "POST /recommend (history in the request)",
    "cold": "POST /recommend (cold user)",
    "where": "POST /recommend (filtered)",
    "events": "POST /events",
    "history": "GET /users/{user_id}/history",
    "after": "POST /recommend (after an event)",
}
RECOMMENDS = frozenset(name for name in NAMES.values() if name.startswith("POST /recommend"))

DEFAULT_MIX: dict[Kind, float] = {
    "known": 0.5,
    "inline": 0.15,
    "cold": 0.05,
    "where": 0.1,
    "events": 0.1,
    "history": 0.1,
}
MOST_OFFERS = 1_000


class Visitor(NamedTuple):
    """A user with items, oldest first."""

    user_id: str
    item_ids: tuple[str, ...]


class Zipf:
    """Ranks from 0, the one of rank r as often as 1 / (r + 1)^exponent."""

    def __init__(self, num_ranks: int, exponent: float) -> None:
        self._cumulative = list(accumulate((rank + 1) ** -exponent for rank in range(num_ranks)))

    def draw(self, random_: random.Random) -> int:
        """A rank in [0, num_ranks)."""
        at = random_.random() * self._cumulative[-1]
        return min(bisect_right(self._cumulative, at), len(self._cumulative) - 1)


@dataclass(frozen=True)
class Call:
    """One request.

    Args:
        name: what it is counted under; one of NAMES.
        method: of HTTP.
        path: with its query.
        body: JSON, or None.
        user_id: whose it is, if a known user's.
        item_id: what the event is about; in the recommendation after it, what must not come.
    """

    name: str
    method: str
    path: str
    body: str | None = None
    user_id: str | None = None
    item_id: str | None = None


class Traffic:
    """Requests one after another; the same seed and answers give the same ones."""

    def __init__(
        self,
        visitors: Sequence[Visitor],
        wheres: Sequence[str],
        mix: Mapping[Kind, float],
        *,
        zipf: float,
        limit: int,
        seed: int,
    ) -> None:
        """Draw from these.

        Args:
            visitors: the most frequent first; at least one.
            wheres: conditions for filtered requests; none = filtered by `deny`.
            mix: the weight of each kind; one left out never comes.
            zipf: exponent, at least 0.
            limit: items to ask for.
            seed: of everything.
        """
        self._visitors = visitors
        self._wheres = wheres
        self._kinds: list[Kind] = list(mix)
        self._weights = list(accumulate(mix.values()))
        self._ranks = Zipf(len(visitors), zipf)
        self._limit = limit
        self._random = random.Random(seed)
        self._num_cold = 0
        self._offers: deque[tuple[str, str]] = deque(maxlen=MOST_OFFERS)

    def next_call(self) -> Call:
        """What the next arrival asks."""
        (kind,) = self._random.choices(self._kinds, cum_weights=self._weights)
        visitor = self._visitors[self._ranks.draw(self._random)]
        match kind:
            case "known":
                return self._recommend(kind, visitor.user_id)
            case "inline":
                return self._recommend(kind, history=visitor.item_ids)
            case "cold":
                self._num_cold += 1
                return self._recommend(kind, user_id=f"nobody-yet-{self._num_cold}")
            case "where":
                return self._recommend(kind, visitor.user_id, filter=self._filter(visitor))
            case "events":
                return self._event(visitor)
            case "history":
                path = f"/users/{quote(visitor.user_id, safe='')}/history?limit=50"
                return Call(NAMES[kind], "GET", path, user_id=visitor.user_id)

    def offered(self, call: Call, answer: Mapping[str, Any]) -> None:
        """Remember what a known user was recommended: the next event takes the best of it."""
        if call.name == NAMES["known"] and call.user_id and answer["items"]:
            self._offers.append((call.user_id, answer["items"][0]["item_id"]))

    def after(self, event: Call) -> Call:
        """The request that must know of an event: its user's next recommendation."""
        assert event.user_id is not None
        return self._recommend("after", event.user_id, item_id=event.item_id)

    def _recommend(
        self, kind: str, user_id: str | None = None, *, item_id: str | None = None, **fields: object
    ) -> Call:
        who = {} if user_id is None else {"user_id": user_id}
        body = json.dumps({**who, **fields, "limit": self._limit})
        return Call(NAMES[kind], "POST", "/recommend", body, user_id, item_id)

    def _filter(self, visitor: Visitor) -> dict[str, object]:
        if self._wheres:
            return {"where": self._random.choice(self._wheres)}
        return {"deny": list(visitor.item_ids[-10:])}

    def _event(self, visitor: Visitor) -> Call:
        """A user takes the first item offered; who was offered nothing, one of their own again."""
        if self._offers:
            user_id, item_id = self._offers.popleft()
        else:
            user_id, item_id = visitor.user_id, self._random.choice(visitor.item_ids)
        body = json.dumps({"events": [{"user_id": user_id, "item_id": item_id}]})
        return Call(NAMES["events"], "POST", "/events", body, user_id, item_id)


def fault_in(call: Call, answer: Mapping[str, Any]) -> str | None:
    """What is wrong about the content of an answer of status 200; None if nothing."""
    if call.name not in RECOMMENDS:
        return None
    items = [item["item_id"] for item in answer["items"]]
    if len(set(items)) < len(items):
        return "an item came twice"
    written = call.name == NAMES["after"] and "history" not in answer["degraded"]
    if written and call.item_id in items:
        return "read-your-writes: the item of the event before was recommended"
    return None
