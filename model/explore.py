"""Exploration: places in an answer for items that nobody had when the model learned."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.queries import Answer, Query, RankedItem

UNTRIED = "popularity = 0"
"""A filter for items without a single interaction in training, e.g. those added since."""


def among_untried(query: Query) -> Query:
    """What to ask for the explored places: the query's best items that nobody had."""
    where = UNTRIED if query.where is None else f"({query.where}) AND {UNTRIED}"
    return replace(query, where=where, explore=0)


def with_untried(
    query: Query, answer: Answer, untried: Answer, popularity: npt.NDArray[np.int64]
) -> Answer:
    """The answer, whose last items give way until `query.explore` untried ones are in it.

    What stays keeps its order; what comes in stands at the end, best first. An item also gives way
    where it and one that comes in would be too much alike.

    Args:
        query: what was asked.
        answer: to the query itself.
        untried: to `among_untried(query)`, best first.
        popularity: (num_items,), 0 = untried.
    """
    have = [item for item in answer.items if popularity[item.item_index] == 0]
    missing = min(query.explore, len(untried.items)) - len(have)
    if missing <= 0:
        return answer
    present = {item.item_index for item in have}
    absent = [item for item in untried.items if item.item_index not in present]
    fresh = _fitting(query, have, absent, missing)
    others = [item for item in answer.items if item.item_index not in present]
    room = query.limit - len(have) - len(fresh)
    stay = {item.item_index for item in _fitting(query, [*have, *fresh], others, room)} | present
    kept = [item for item in answer.items if item.item_index in stay]
    return replace(answer, items=[*kept, *fresh])


def _fitting(
    query: Query, given: Sequence[RankedItem], items: Sequence[RankedItem], room: int
) -> list[RankedItem]:
    """The first items, `room` at most, that with the given ones are not too much alike."""
    if query.diversity is None:
        return list(items[:room])
    length, most = query.diversity.prefix_length, query.diversity.max_items
    alike = Counter(item.sid[:length] for item in given)
    fitting: list[RankedItem] = []
    for item in items:
        prefix = item.sid[:length]
        if len(fitting) < room and alike[prefix] < most:
            alike[prefix] += 1
            fitting.append(item)
    return fitting
