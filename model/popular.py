"""The most popular items that a query's rules allow."""

from dataclasses import replace

import numpy as np

from model.inventory import Inventory
from model.queries import Query
from model.row_rules import rules_of

AT_ONCE = 1024
"""Items looked at first while popular ones are collected; then twice as many, and so on."""


def popular(inventory: Inventory, query: Query) -> list[int]:
    """As many as the query asks for; its history may be empty, boosts and diversity do not count.

    Args:
        inventory: of all items.
        query: whose rules count.
    """
    _, (rules,) = rules_of(inventory, [replace(query, boosts=(), diversity=None)])
    by_popularity = inventory.catalog.by_popularity
    if query.allow is not None:
        allowed = np.unique(np.asarray(query.allow, dtype=np.int64))
        by_popularity = allowed[np.argsort(-inventory.sids.popularity[allowed], kind="stable")]
    found: list[int] = []
    start, num_items = 0, AT_ONCE
    while len(found) < query.limit and start < len(by_popularity):
        some = by_popularity[start : start + num_items]
        found += some[rules.is_open(some)].tolist()
        start, num_items = start + num_items, 2 * num_items
    return found[: query.limit]
