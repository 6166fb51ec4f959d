"""The journal at a start: thousands of changes at once, and none of them lost to a wrong one."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from model.engine import Engine
from model.placement import Vectors
from service.catalog_journal import CatalogJournal, Change
from tests.factories import random_bundle

WIDTH = 4


def vector(seed: int) -> bytes:
    """Something an item is placed by."""
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32).tobytes()


def said_before(journal: CatalogJournal, changes: list[Change]) -> None:
    """Keep changes that an engine, whichever that was, took."""
    for change in changes:
        journal._write(change)


@pytest.fixture
def journal(tmp_path: Path) -> CatalogJournal:
    """A journal that nothing has been said to."""
    return CatalogJournal.open(tmp_path / "changes.db")


@pytest.fixture
def engine() -> Engine:
    """Forty items, i0 to i39."""
    return Engine.from_bundle(random_bundle())


def test_a_replay_comes_to_the_same_as_one_change_after_the_other(
    journal: CatalogJournal, engine: Engine
) -> None:
    """New ones, changed ones, taken out and put back, with and without attributes."""
    changes = [
        Change("new-1", {"title": "One", "brand": "c"}, vector(1)),
        Change("i3", {"title": "Three"}),
        Change("new-2", {"title": None, "year": 2026}, vector(2)),
        Change("i4", removed=True),
        Change("new-3", {"title": "Gone"}, vector(3), removed=True),
        Change("new-4", {"title": "Four", "brand": "d"}, vector(4)),
        Change("new-5", {"title": "Five", "year": None}, vector(5)),
    ]
    other = Engine.from_bundle(random_bundle())
    for change in changes:
        journal.put([other], change) if change.columns else journal.remove([other], change.item_id)
    other.remove_items(["new-3"])

    applied = journal.replay(engine)

    shown = [
        {
            name: (one.catalog.frame.row(index, named=True), one.inventory.is_removed(index))
            for name in (*(f"i{n}" for n in range(40)), *(f"new-{n}" for n in range(1, 6)))
            if (index := one.catalog.index_of(name)) is not None
        }
        for one in (engine, other)
    ]
    assert applied == len(changes)
    assert len(shown[0]) == 45
    assert shown[0] == shown[1]


def test_a_change_that_is_refused_takes_no_other_with_it(
    journal: CatalogJournal, engine: Engine
) -> None:
    """A vector of another width, a column that the catalog has not, a new item without a vector."""
    said_before(
        journal,
        [
            Change("good-1", {"title": "Good"}, vector(1)),
            Change("wide", {"title": "Wide"}, bytes(4 * (WIDTH + 1))),
            Change("odd", {"title": "Odd", "colour": "red"}, vector(2)),
            Change("bare", {"title": "Bare"}),
            Change("mixed-1", {"title": "A", "year": 1999}, vector(3)),
            Change("mixed-2", {"title": "B", "year": "then"}, vector(4)),
            Change("good-2", {"title": "Good"}, vector(5)),
        ],
    )

    applied = journal.replay(engine)

    known = [name for name in ("good-1", "good-2", "mixed-1") if engine.catalog.index_of(name)]
    refused = ("wide", "odd", "bare", "mixed-2")
    assert applied == 3
    assert known == ["good-1", "good-2", "mixed-1"]
    assert [engine.catalog.index_of(name) for name in refused] == [None] * 4


class CountingEngine(Engine):
    """Remembers how many items each put brought."""

    puts: ClassVar[list[int]] = []

    def put_items(self, items: pl.DataFrame, vectors: Vectors | None = None) -> int:
        """Note it, then do it."""
        self.puts.append(items.height)
        return super().put_items(items, vectors)


def test_many_new_items_are_one_splice(journal: CatalogJournal) -> None:
    """One put for all that are alike, not one for each."""
    engine = CountingEngine.from_bundle(random_bundle())
    said_before(journal, [Change(f"n{n}", {"title": "x"}, vector(n)) for n in range(500)])

    applied = journal.replay(engine)

    assert (applied, engine.puts) == (500, [500])
