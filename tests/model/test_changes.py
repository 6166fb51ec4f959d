"""A catalog that changes while it is served, against an engine built from its final state."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle import Bundle
from model.catalog import Catalog
from model.config import QwenConfig, T5Config
from model.engine import Engine, Query
from model.errors import ModelError
from model.placement import Placement, Vectors, place
from model.queries import Diversity
from model.semantic_id import SidTable
from tests.factories import TINY, TINY_QWEN, random_bundle

DIM = 4
NEVER_REMOVED = 5
"""The first items make up histories; an engine that never knew an item cannot read it."""
WHERES = [None, "brand = 'a'", "year > 1993", "popularity = 0", "brand IS NULL"]

BOTH = pytest.mark.parametrize("config", [TINY, TINY_QWEN], ids=["t5", "qwen"])
SUFFIX = pytest.mark.parametrize("has_suffix", [False, True], ids=["codebooks", "suffix"])


def placeable_bundle(config: T5Config | QwenConfig, *, has_suffix: bool = False) -> Bundle:
    """A bundle whose codebooks can place new items; the last level may have none."""
    sizes = config.codebook_sizes[:-1] if has_suffix else config.codebook_sizes
    random = torch.Generator().manual_seed(0)
    books = tuple(torch.randn(size, DIM, generator=random) for size in sizes)
    return replace(random_bundle(config), placement=Placement(books))


def random_vectors(count: int, seed: int = 0) -> Vectors:
    """(count, DIM)."""
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


@dataclass(frozen=True)
class World:
    """What the catalog should be by now, in plain Python.

    Args:
        rows: every item that ever was, by id, in order.
        codes: their semantic IDs.
        gone: ids of removed items.
    """

    rows: dict[str, dict[str, Any]]
    codes: dict[str, tuple[int, ...]]
    gone: set[str]

    @classmethod
    def of(cls, bundle: Bundle) -> "World":
        """Before anything happened."""
        rows = {row["item_id"]: row for row in bundle.catalog.frame.rows(named=True)}
        sids = map(tuple, bundle.sids.codes.tolist())
        return cls(rows, dict(zip(rows, sids, strict=True)), set())

    def put(self, given: list[dict[str, Any]], vectors: Vectors, bundle: Bundle) -> None:
        """Items come, change or come back."""
        placed = place(vectors, bundle.placement).tolist()
        for row, codes in zip(given, placed, strict=True):
            self.gone.discard(row["item_id"])
            popularity = self.rows.get(row["item_id"], {"popularity": 0})["popularity"]
            self.rows[row["item_id"]] = row | {"popularity": popularity}
            if row["item_id"] not in self.codes:
                self.codes[row["item_id"]] = self._whole(tuple(codes), bundle.sids.codebook_sizes)

    def _whole(self, codes: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
        """With the smallest suffix that nobody has, the last one if all are taken."""
        taken = set(self.codes.values())
        whole = [(*codes, suffix) for suffix in range(sizes[-1])]
        free = [sid for sid in whole if sid not in taken] or whole[-1:]
        return codes if len(codes) == len(sizes) else free[0]

    def engine(self, bundle: Bundle) -> Engine:
        """Built from what is there now."""
        ids = [item_id for item_id in self.rows if item_id not in self.gone]
        frame = pl.DataFrame([self.rows[i] for i in ids], schema=bundle.catalog.frame.schema)
        codes = np.array([self.codes[i] for i in ids], dtype=np.int32)
        table = SidTable(codes, bundle.sids.codebook_sizes, frame["popularity"].to_numpy())
        return Engine.from_bundle(replace(bundle, sids=table, catalog=Catalog.from_frame(frame)))


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few items to put: new ones n0 to n5, or old ones."""
    known = st.integers(NEVER_REMOVED, 39).map(lambda n: f"i{n}")
    item_id = known | st.integers(0, 5).map(lambda n: f"n{n}")
    return [
        {
            "item_id": name,
            "title": draw(st.none() | st.just(f"New {name}")),
            "brand": draw(st.sampled_from(["a", "b", None])),
            "year": draw(st.integers(1990, 1996)),
        }
        for name in draw(st.lists(item_id, min_size=1, max_size=4, unique=True))
    ]


@st.composite
def removals(draw: st.DrawFn) -> list[str]:
    """A few items to take out."""
    old, new = range(NEVER_REMOVED, 40), range(6)
    ids = [*(f"i{n}" for n in old), *(f"n{n}" for n in new)]
    return draw(st.lists(st.sampled_from(ids), max_size=4, unique=True))


@st.composite
def questions(draw: st.DrawFn) -> Query:
    """Queries that an engine can answer whatever became of the catalog."""
    return Query(
        history=draw(st.lists(st.integers(0, NEVER_REMOVED - 1), min_size=1, max_size=8)),
        limit=draw(st.integers(1, 12)),
        beam_width=draw(st.sampled_from([None, 4, 1000])),
        where=draw(st.sampled_from(WHERES)),
        diversity=draw(st.none() | st.builds(Diversity, st.integers(1, 2), st.integers(1, 2))),
    )


def answers(engine: Engine, *queries: Query) -> list[list[tuple[str, tuple[int, ...]]]]:
    """Ids and semantic IDs of each answer."""
    ids = engine.catalog.item_ids
    found = engine.recommend(queries)
    return [[(ids[item.item_index], item.sid) for item in answer.items] for answer in found]


@BOTH
@SUFFIX
@settings(max_examples=15)
@given(data=st.data())
def test_changes_come_to_the_same_as_building_anew(
    config: T5Config | QwenConfig, has_suffix: bool, data: st.DataObject
) -> None:
    """Items come one by one or in groups, change, go and come back, in any order."""
    bundle = placeable_bundle(config, has_suffix=has_suffix)
    engine, world = Engine.from_bundle(bundle), World.of(bundle)
    query = data.draw(questions())
    for seed, step in enumerate(data.draw(st.lists(st.tuples(rows(), removals()), max_size=4))):
        put, removed = step
        vectors = random_vectors(len(put), seed)
        engine.put_items(pl.DataFrame(put), vectors)
        world.put(put, vectors, bundle)
        unknown = engine.remove_items(removed)
        world.gone.update(set(removed) & world.rows.keys())
        answers(engine, query)  # filters are cached between changes
        assert unknown == [item_id for item_id in removed if item_id not in world.rows]

    assert answers(engine, query) == answers(world.engine(bundle), query)


@BOTH
def test_a_new_item_is_found_and_read(config: T5Config | QwenConfig) -> None:
    """With its own codes, title and attributes; it may stand in histories at once."""
    engine = Engine.from_bundle(placeable_bundle(config))
    new = pl.DataFrame({"item_id": ["n0"], "title": ["New"], "year": [2026]})

    added = engine.put_items(new, random_vectors(1))

    (found,) = answers(engine, Query([0, 1], limit=5, where="year = 2026"))
    assert added == 1
    assert [item_id for item_id, _ in found] == ["n0"]
    assert engine.catalog.titles[40] == "New"
    assert len(engine.recommend([Query([40], limit=39)])[0].items) == 39


def test_an_item_that_comes_back_is_found_again() -> None:
    """At its old place, without a vector; the answers are those from before it went."""
    engine = Engine.from_bundle(placeable_bundle(TINY))
    query = Query([0, 1], limit=40)
    before = answers(engine, query)
    engine.remove_items(["i7"])
    without = answers(engine, query)

    added = engine.put_items(engine.catalog.frame[[7]].drop("popularity"))

    assert added == 0
    assert "i7" not in dict(without[0])
    assert answers(engine, query) == before


def test_a_changed_attribute_counts_for_filters_at_once() -> None:
    """A filter that was used before is evaluated anew."""
    engine = Engine.from_bundle(placeable_bundle(TINY))
    query = Query([0, 1], limit=40, where="brand = 'z'")
    before = answers(engine, query)

    engine.put_items(pl.DataFrame({"item_id": ["i9"], "brand": ["z"], "year": [None]}))

    assert before == [[]]
    assert [item_id for item_id, _ in answers(engine, query)[0]] == ["i9"]


ONE = {"item_id": ["n0"]}
REFUSED: list[tuple[dict[str, list[Any]], Callable[[], Vectors | None], str]] = [
    (ONE | {"colour": ["red"]}, lambda: random_vectors(1), "no column 'colour'"),
    (ONE | {"popularity": [3]}, lambda: random_vectors(1), "no column 'popularity' to set"),
    (ONE | {"year": ["many"]}, lambda: random_vectors(1), "'year' takes values of type Int64"),
    ({"item_id": ["n0", "n0"]}, lambda: random_vectors(2), "given twice"),
    ({"item_id": ["i7", None]}, lambda: random_vectors(2), "needs an item_id"),
    ({"title": ["New"]}, lambda: random_vectors(1), "needs an item_id"),
    ({"item_id": ["i7", "n0"]}, lambda: None, "'n0' is new: it needs a vector"),
    (ONE, lambda: random_vectors(1)[:, :3], "cannot be placed"),
    (ONE, lambda: random_vectors(2), "2 vectors for 1 items"),
    (ONE, lambda: random_vectors(1) * np.float32("nan"), "not finite"),
]


@pytest.mark.parametrize(("columns", "vectors", "message"), REFUSED, ids=[m for *_, m in REFUSED])
def test_what_is_refused_changes_nothing(
    columns: dict[str, list[Any]], vectors: Callable[[], Vectors | None], message: str
) -> None:
    """The error says why; catalog, filters and answers stay as they were."""
    engine = Engine.from_bundle(placeable_bundle(TINY))
    engine.remove_items(["i7"])
    queries = [Query([0, 1], limit=40, where=where) for where in WHERES]
    frame, before = engine.catalog.frame, answers(engine, *queries)

    with pytest.raises(ModelError, match=message):
        engine.put_items(pl.DataFrame(columns), vectors())

    assert engine.catalog.frame.equals(frame)
    assert len(engine.catalog) == engine.sids.num_items == 40
    assert answers(engine, *queries) == before


def test_without_codebooks_nothing_can_be_added() -> None:
    """Published semantic IDs do not say how they were made."""
    engine = Engine.from_bundle(replace(random_bundle(), placement=Placement(())))

    with pytest.raises(ModelError, match="no codebooks"):
        engine.put_items(pl.DataFrame({"item_id": ["n0"]}), random_vectors(1))


def test_unknown_ids_are_named_and_the_others_removed() -> None:
    """Removing twice is no error."""
    engine = Engine.from_bundle(placeable_bundle(TINY))

    unknown = [engine.remove_items(["i8", "nothing"]) for _ in range(2)]

    found = dict(answers(engine, Query([0], limit=40))[0])
    assert unknown == [["nothing"], ["nothing"]]
    assert "i8" not in found
    assert len(found) == 38
