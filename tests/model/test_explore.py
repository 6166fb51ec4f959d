"""Places in an answer for items that nobody had, against what the promise says."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.engine import Engine, Query
from model.queries import Answer, Boost, Diversity
from model.semantic_id import SidTable
from tests.factories import TINY, TINY_QWEN, random_engine, random_table


def half_untried() -> SidTable:
    """Every other item without popularity."""
    table = random_table()
    popularity = np.where(np.arange(table.num_items) % 2, table.popularity + 1, 0)
    return SidTable(table.codes, table.codebook_sizes, popularity)


ENGINES = {
    "t5": random_engine(TINY, half_untried()),
    "qwen": random_engine(TINY_QWEN, half_untried()),
}

items = st.integers(0, 39)
diversities = st.none() | st.builds(Diversity, st.integers(1, 3), st.integers(1, 3))
queries = st.builds(
    Query,
    history=st.lists(items, min_size=1, max_size=6),
    limit=st.integers(1, 12),
    beam_width=st.sampled_from([None, 1, 1000]),
    where=st.sampled_from([None, "year > 1993", "brand = 'a' OR year = 1990"]),
    deny=st.lists(items, max_size=8, unique=True).map(tuple),
    boosts=st.sampled_from([(), (Boost(by=2.0, where="year = 1992"),)]),
    diversity=diversities,
    explore=st.integers(1, 14),
)


def untried(engine: Engine, found: list[int]) -> list[int]:
    """Those that nobody had."""
    return [item for item in found if engine.catalog.popularity[item] == 0]


def indices(answer: Answer) -> list[int]:
    """The items of an answer."""
    return [item.item_index for item in answer.items]


@pytest.mark.parametrize("backbone", ENGINES)
@settings(max_examples=60)
@given(query=queries)
def test_so_many_untried_items_as_asked_for_are_in_the_answer(backbone: str, query: Query) -> None:
    """If they exist; the limit and the quota hold, and what else is there keeps its order."""
    engine = ENGINES[backbone]
    only = replace(query, where=f"({query.where or 'TRUE'}) AND popularity = 0", explore=0)

    answer, plain, new = map(
        indices, engine.recommend([query, replace(query, explore=0), replace(only, limit=40)])
    )

    assert len(untried(engine, answer)) >= min(query.explore, query.limit, len(new))
    assert len(plain) <= len(answer) == len(set(answer)) <= query.limit
    kept = [item for item in answer if item in plain]
    assert kept == [item for item in plain if item in answer]
    assert answer[: len(kept)] == kept
    assert untried(engine, answer[len(kept) :]) == answer[len(kept) :]
    assert max(alike(engine, answer, query.diversity), default=0) <= most_alike(query.diversity)


def alike(engine: Engine, found: list[int], diversity: Diversity | None) -> list[int]:
    """How many items share each prefix that is counted."""
    length = diversity.prefix_length if diversity else 0
    return list(Counter(tuple(engine.sids.codes[i, :length].tolist()) for i in found).values())


def most_alike(diversity: Diversity | None) -> int:
    """How many may."""
    return diversity.max_items if diversity else 12


def test_an_answer_with_enough_untried_items_stays_as_it_is() -> None:
    """Nothing gives way for what is there already."""
    engine = ENGINES["t5"]
    plain = engine.recommend([Query([1, 3], limit=20)])[0]
    enough = len(untried(engine, indices(plain)))

    answer = engine.recommend([Query([1, 3], limit=20, explore=enough)])[0]

    assert enough > 0
    assert indices(answer) == indices(plain)


def test_explored_items_take_the_last_places() -> None:
    """The best tried items stay in front, the best untried ones stand behind."""
    engine = ENGINES["t5"]
    boost = Boost(by=10, where="popularity > 0")

    answer = indices(engine.recommend([Query([1, 3], limit=6, explore=2, boosts=(boost,))])[0])

    assert untried(engine, answer) == answer[4:]
    assert len(answer) == 6
