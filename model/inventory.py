"""Inventory: what can be found right now, and the filters and boosts that were made for it.

Items come and go between two batches. A filter is evaluated once and kept by what it says; it
follows every change. Shape words: num_items, nodes (of one level of the trie).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import RLock

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from model.ancestry import Ancestry
from model.boosts import Biases, FewBiases, boosted, few_boosted
from model.catalog import Catalog
from model.queries import Boost
from model.semantic_id import SidTable
from model.shelf import Shelf
from model.trie import SidTrie
from model.trie_growth import grown_trie
from model.where import Where, parse

MAX_PARSED = 256
"""Filter expressions that need not be read again."""
MAX_CACHED = 128
MAX_CACHED_BYTES = 256 << 20
"""Filters, lists and boosts together; the least recently used go first."""
MIN_LISTED = 128
"""Items of a list that may be made for the whole catalog, as filters are; fewer cost less."""
ITEMS_PER_USE = 150_000
"""For so many items of a catalog a list must come once more before that, as making it takes about
as long as that many uses of it as a list."""
MAX_COUNTED = 4096
"""Lists of which is known how often they were used."""


@dataclass(frozen=True)
class Listed:
    """The items of a filter that two lists leave.

    Args:
        where: the filter; None = all items.
        allow: the only items; None = all.
        deny: these not.
    """

    where: Where | None
    allow: tuple[int, ...] | None
    deny: tuple[int, ...]

    def marks(self, frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """(num_items,): who is among them, of a whole catalog."""
        matching = np.ones(len(frame), dtype=bool)
        if self.where is not None:
            matching = self.where.evaluate(frame)
        if self.allow is not None:
            allowed = np.zeros(len(frame), dtype=bool)
            allowed[list(self.allow)] = True
            matching &= allowed
        matching[list(self.deny)] = False
        return matching

    def has(self, item: int, row: pl.DataFrame) -> bool:
        """Whether an item is among them; `row` is the catalog's, of one."""
        listed = (self.allow is None or item in self.allow) and item not in self.deny
        return listed and (self.where is None or bool(self.where.evaluate(row)[0]))


class Inventory:
    """The items of a bundle, and those that came since.

    Several threads may look things up. Whoever changes it must be alone with it.
    """

    def __init__(
        self, sids: SidTable, catalog: Catalog, device: torch.device, trie: SidTrie | None = None
    ) -> None:
        """Start with these items; `trie` is theirs, None = build it."""
        self.catalog = catalog
        self.device = device
        schema = catalog.frame.schema  # items change, columns never
        self._parse = lru_cache(maxsize=MAX_PARSED)(lambda where: parse(where, schema))
        self.min_listed = MIN_LISTED
        self.min_uses = 1 + sids.num_items // ITEMS_PER_USE
        self._removed = np.zeros(sids.num_items, dtype=bool)
        self._making = RLock()
        self._index(sids, trie or SidTrie.from_sids(sids.sids))

    def _index(self, sids: SidTable, trie: SidTrie) -> None:
        """Take these items; what was made for others is forgotten."""
        self.sids = sids
        self._host_trie = trie
        self.ancestry = Ancestry(trie)
        self.trie = trie.to(self.device)
        self._cached: OrderedDict[object, Shelf | Biases] = OrderedDict()
        self._cached_bytes = 0
        self._filters: dict[object, Listed] = {}
        self._uses: OrderedDict[int, int] = OrderedDict()
        self._base = self._make_shelf(~self._removed) if self._removed.any() else None

    def parse(self, where: str) -> Where:
        """Check a filter expression, or raise FilterError."""
        return self._parse(where)

    def is_removed(self, item: int) -> bool:
        """Whether the item was taken out."""
        return bool(self._removed[item])

    def add(self, codes: npt.NDArray[np.int32]) -> None:
        """The catalog's newest items, with (added, num_levels) codes; found from now on.

        The catalog must have them already.
        """
        self._removed = np.append(self._removed, np.zeros(len(codes), dtype=bool))
        sids = self.sids.grown(codes, np.zeros(len(codes), dtype=np.int64))
        added = np.unique(codes, axis=0)
        self._index(sids, grown_trie(self._host_trie, added, sids.sids))

    def set_removed(self, item: int, removed: bool) -> None:
        """Take an item out, or back in."""
        if self._removed[item] == removed:
            return
        self._removed[item] = removed
        if self._base is None:
            self._base = self._make_shelf(~self._removed)
        else:
            self._base.change(item, not removed, self.sids.leaves, self.ancestry)
        row = self.catalog.frame.slice(item, 1)
        for key, listed in self._filters.items():
            shelf = self._cached[key]
            assert isinstance(shelf, Shelf)
            alive = not removed and listed.has(item, row)
            shelf.change(item, alive, self.sids.leaves, self.ancestry)

    def forget(self) -> None:
        """Forget all filters, lists and boosts, as the catalog's columns have changed."""
        self._cached.clear()
        self._cached_bytes = 0
        self._filters.clear()
        self._uses.clear()

    def shelf(self, where: str | None) -> Shelf | None:
        """The items that match and were not removed; None = all there are."""
        if where is None:
            return self._base
        parsed = self.parse(where)
        return self._shelf(parsed.key, Listed(parsed, None, ()))

    def listed(
        self, where: str | None, allow: tuple[int, ...] | None, deny: tuple[int, ...]
    ) -> Shelf | None:
        """The items of a filter that two lists leave, if they are long and come again and again.

        None = they are short, or have not come often: then it is less work to look at the listed
        items alone.
        """
        if len(allow or ()) + len(deny) < self.min_listed:
            return None
        parsed = None if where is None else self.parse(where)
        key = (None if parsed is None else parsed.key, allow, deny)
        return self._shelf(key, Listed(parsed, allow, deny)) if self._comes_often(key) else None

    def _shelf(self, key: object, listed: Listed) -> Shelf:
        with self._making:
            shelf = self._cached.get(key)
            if shelf is None:
                shelf = self._make_shelf(listed.marks(self.catalog.frame) & ~self._removed)
                self._filters[key] = listed
            self._keep(key, shelf)
        assert isinstance(shelf, Shelf)
        return shelf

    def _comes_often(self, key: object) -> bool:
        """Whether this is asked for the min_uses-th time, or later."""
        number = hash(key)  # of two that share it, one is made too early
        with self._making:
            uses = self._uses[number] = self._uses.pop(number, 0) + 1
            if len(self._uses) > MAX_COUNTED:
                self._uses.popitem(last=False)
        return uses >= self.min_uses

    def biases(self, boosts: Sequence[Boost], where: str | None) -> Biases | FewBiases | None:
        """What the boosts come to for the items of a filter; None = nothing."""
        if not boosts:
            return None
        key = (where, *boosts)
        listed = sum(len(boost.items or ()) for boost in boosts)
        often = listed >= self.min_listed and self._comes_often(key)
        if not often and all(boost.items is not None for boost in boosts):
            items, numbers = few_boosted(boosts, self.catalog, self.parse)
            if not len(items):
                return None
            shelf = self.shelf(where)
            return FewBiases.of(items, numbers, shelf, self.sids.leaves, self.ancestry)
        with self._making:
            made = self._cached.get(key)
            if made is None:
                added = boosted(boosts, self.catalog, self.parse)
                shelf = self.shelf(where)
                made = Biases.of(added, shelf, self.sids.leaves, self.ancestry, self.device)
            self._keep(key, made)
        assert isinstance(made, Biases)
        return made

    def _make_shelf(self, marks: npt.NDArray[np.bool_]) -> Shelf:
        return Shelf.of(marks, self.sids.leaves, self.ancestry, self.device)

    def _keep(self, key: object, made: Shelf | Biases) -> None:
        """Remember as the most recently used."""
        if key not in self._cached:
            self._cached[key] = made
            self._cached_bytes += made.num_bytes
        self._cached.move_to_end(key)
        while len(self._cached) > MAX_CACHED or (
            self._cached_bytes > MAX_CACHED_BYTES and len(self._cached) > 1
        ):
            oldest, dropped = self._cached.popitem(last=False)
            self._filters.pop(oldest, None)
            self._cached_bytes -= dropped.num_bytes
