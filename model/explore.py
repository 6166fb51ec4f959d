"""Exploration: places in an answer for items that nobody had when the model learned."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from model.queries import Answer, Query, RankedItem

UNTRIED = "popularity = 0"
"""A filter for items without a single interaction in training, e.g. those added since."""


def among_untried(query: Query) -> Query:
    """What to ask for the explored places: the query's best items that nobody had."""
    where = UNTRIED if query.where is None else f"({query.where}) AND {UNTRIED}"
    return replace(query, where=where, limit=query.limit, explore=0)


def with_untried(query: Query, answer: Answer, untried: Answer) -> Answer:
    """The answer, whose last items give way until `query.explore` untried ones are in it.

    Args:
        query: what was asked.
        answer: to the query itself.
        untried: to `among_untried(query)`, best first.
    """
    best = untried.items[: query.explore]
    fresh = {item.item_index for item in untried.items}
    have = [item for item in answer.items if item.item_index in fresh]
    items = list(answer.items)
    present = {item.item_index for item in have}
    missing = [item for item in best if item.item_index not in present]
    missing = missing[: max(0, len(best) - len(have))]
    for item in missing:
        if len(items) == query.limit:
            del items[max(n for n, old in enumerate(items) if old.item_index not in fresh)]
        if _fits(query, items, item):
            items.append(item)
    return replace(answer, items=items)


def _fits(query: Query, items: Sequence[RankedItem], item: RankedItem) -> bool:
    """Whether one more item would not make too many alike."""
    if query.diversity is None:
        return True
    length = query.diversity.prefix_length
    alike = Counter(each.sid[:length] for each in items)
    return alike[item.sid[:length]] < query.diversity.max_items
