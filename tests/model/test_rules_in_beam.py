"""Filters, lists, boosts and quotas inside the beam, against scoring every item and sorting.

The oracle knows nothing of tries: it takes every item's score from a search without rules, applies
the rules one after the other, and sorts.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import AnyModelConfig
from model.engine import Engine, Query
from model.errors import FilterError
from model.queries import MAX_BOOST, Boost, Diversity
from tests.factories import TINY, TINY_QWEN, random_engine

NUM_ITEMS = 40
CONFIGS: dict[str, AnyModelConfig] = {"t5": TINY, "qwen": TINY_QWEN}


def engine_of(backbone: str, *, lists: bool = False) -> Engine:
    """An engine; with `lists`, any list is made for the whole catalog when it is first used."""
    engine = random_engine(CONFIGS[backbone])
    if lists:
        engine.inventory.min_listed = engine.inventory.min_uses = 1
    return engine


ENGINES = {
    "t5": engine_of("t5"),
    "qwen": engine_of("qwen"),
    "t5, lists": engine_of("t5", lists=True),
}
WHERES = ["year = 1991", "year <= 1993", "brand = 'a' AND year <> 1995", "popularity > 50", "FALSE"]

items = st.integers(0, NUM_ITEMS - 1)
few_items = st.lists(items, max_size=12, unique=True).map(tuple)
wheres = st.none() | st.sampled_from(WHERES)
boosts = st.builds(
    Boost,
    st.floats(-12, 12).map(lambda by: round(by, 2)),
    wheres,
    st.none() | few_items,
)
diversities = st.none() | st.builds(Diversity, st.integers(1, 3), st.integers(1, 3))


@st.composite
def queries(draw: st.DrawFn, *, limit: int = NUM_ITEMS) -> Query:
    """A query with any rules at all."""
    return Query(
        history=draw(st.lists(items, min_size=1, max_size=15)),
        limit=draw(st.integers(1, limit)),
        exclude_seen=draw(st.booleans()),
        where=draw(wheres),
        allow=draw(st.none() | few_items),
        deny=draw(few_items),
        boosts=tuple(draw(st.lists(boosts, max_size=2))),
        diversity=draw(diversities),
    )


def matching(engine: Engine, where: str | None) -> set[int]:
    """The items of a filter, row by row in plain Python."""
    rows = engine.catalog.frame.rows(named=True)
    checks: dict[str | None, Callable[[dict[str, Any]], bool]] = {
        None: lambda _: True,
        "year = 1991": lambda row: row["year"] == 1991,
        "year <= 1993": lambda row: row["year"] <= 1993,
        "brand = 'a' AND year <> 1995": lambda row: row["brand"] == "a" and row["year"] != 1995,
        "popularity > 50": lambda row: row["popularity"] > 50,
        "FALSE": lambda _: False,
    }
    return {item for item, row in enumerate(rows) if checks[where](row)}


def boost_of(engine: Engine, query: Query, item: int) -> float:
    """What applies to one item, within bounds."""
    total = np.float32(0)
    for boost in query.boosts:
        if item in matching(engine, boost.where) and (boost.items is None or item in boost.items):
            total += np.float32(boost.by)
    return float(np.clip(total, -MAX_BOOST, MAX_BOOST))


def expected(engine: Engine, query: Query, gone: frozenset[int] = frozenset()) -> list[int]:
    """The answer by scoring everything, filtering, sorting and counting."""
    plain = Query(query.history, limit=1000, beam_width=1000, exclude_seen=False)
    scores = {item.item_index: item.score for item in engine.recommend([plain])[0].items}
    legal = matching(engine, query.where) - set(query.deny) - gone
    legal &= set(query.allow) if query.allow is not None else legal
    legal -= set(query.history) if query.exclude_seen else set()
    legal &= scores.keys()
    rank = {item: np.float32(scores[item]) + boost_of(engine, query, item) for item in legal}
    leaves, popularity = engine.sids.leaves.of_item, engine.sids.popularity
    order = sorted(legal, key=lambda n: (-np.float32(rank[n]), leaves[n], -popularity[n], n))
    if query.diversity is None:
        return order[: query.limit]
    alike: Counter[tuple[int, ...]] = Counter()
    chosen = []
    for item in order:
        prefix = tuple(engine.sids.codes[item, : query.diversity.prefix_length].tolist())
        alike[prefix] += 1
        if alike[prefix] <= query.diversity.max_items:
            chosen.append(item)
    return chosen[: query.limit]


def found(engine: Engine, *asked: Query) -> list[list[int]]:
    """The items of each answer."""
    return [[item.item_index for item in answer.items] for answer in engine.recommend(asked)]


@pytest.mark.parametrize("backbone", ENGINES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_wide_beam_finds_what_scoring_every_item_finds(
    backbone: str, data: st.DataObject
) -> None:
    """Every rule alone and with every other; each row of a batch has its own."""
    engine = ENGINES[backbone]
    batch = data.draw(st.lists(queries(), min_size=1, max_size=4))

    answers = found(engine, *(replace(query, beam_width=1000) for query in batch))

    assert answers == [expected(engine, query) for query in batch]


@pytest.mark.parametrize("backbone", ENGINES)
@settings(max_examples=30)
@given(data=st.data())
def test_exact_decoding_is_exact_under_every_rule(backbone: str, data: st.DataObject) -> None:
    """From a beam of one, widened until it is proved."""
    engine = ENGINES[backbone]
    query = data.draw(queries(limit=4))

    answers = found(engine, replace(query, beam_width=1, decode="exact"))

    assert answers == [expected(engine, query)]


@pytest.mark.parametrize("backbone", ENGINES)
@settings(max_examples=50)
@given(data=st.data())
def test_a_narrow_beam_is_full_and_legal(backbone: str, data: st.DataObject) -> None:
    """As many items as were asked for, if so many legal ones exist, and only legal ones."""
    engine = ENGINES[backbone]
    query = data.draw(queries(limit=8))

    (answer,) = found(engine, query)

    every_legal = expected(engine, replace(query, limit=NUM_ITEMS))
    assert len(answer) == len(set(answer)) == min(query.limit, len(every_legal))
    assert set(answer) <= set(expected(engine, replace(query, limit=NUM_ITEMS, diversity=None)))
    most = query.diversity.max_items if query.diversity else NUM_ITEMS
    length = query.diversity.prefix_length if query.diversity else 1
    prefixes = Counter(tuple(engine.sids.codes[item, :length].tolist()) for item in answer)
    assert all(count <= most for count in prefixes.values())


@pytest.mark.parametrize(
    ("backbone", "lists"), [("t5", False), ("qwen", False), ("t5", True), ("qwen", True)]
)
@settings(max_examples=15)
@given(data=st.data())
def test_removed_items_are_gone_from_every_filter(
    backbone: str, lists: bool, data: st.DataObject
) -> None:
    """Items that go, and come back, while filters and lists are cached: as if evaluated anew."""
    engine = engine_of(backbone, lists=lists)
    ids = engine.catalog.item_ids
    query = replace(data.draw(queries()), beam_width=1000)
    gone: set[int] = set()
    for item in data.draw(st.lists(items, max_size=6)):
        engine.recommend([query])
        if item in gone:
            engine.put_items(engine.catalog.frame[[item]].drop("popularity"))
            gone.remove(item)
        else:
            engine.remove_items([ids[item]])
            gone.add(item)

    answers = found(engine, query)

    assert answers == [expected(ENGINES[backbone], query, frozenset(gone))]


def test_an_answer_says_what_a_boost_added() -> None:
    """The score stays the model's; the boost stands beside it."""
    engine = random_engine()
    boost = Boost(by=MAX_BOOST, items=(17,))

    plain = engine.recommend([Query([1, 2], limit=40)])[0].items
    first = engine.recommend([Query([1, 2], boosts=(boost,))])[0].items[0]

    assert (first.item_index, first.boost) == (17, MAX_BOOST)
    assert first.score == pytest.approx(next(i.score for i in plain if i.item_index == 17))


def test_a_wrong_filter_is_named() -> None:
    """The error says which column is unknown and which there are."""
    with pytest.raises(FilterError, match=r"colour.*brand"):
        random_engine().recommend([Query([1], where="colour = 'red'")])
