"""Catalog: ids, titles, popularity, attributes."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.catalog import MAX_CHUNKS, Catalog
from model.errors import ModelError
from tests.factories import random_catalog, random_table


def test_a_catalog_survives_the_round_trip_through_a_frame() -> None:
    """from_frame undoes to_frame, attributes included."""
    catalog = random_catalog(random_table())

    again = Catalog.from_frame(catalog.to_frame())

    assert again.to_frame().equals(catalog.to_frame())
    assert again.frame.columns == ["item_id", "title", "popularity", "brand", "year"]


def test_items_are_found_by_id() -> None:
    """A known id gives its row, an unknown one None."""
    catalog = random_catalog(random_table())

    assert catalog.index_of("i7") == 7
    assert catalog.index_of("nothing") is None


def test_popular_items_come_first() -> None:
    """Ties keep the catalog's order."""
    frame = pl.DataFrame(
        {"item_id": ["a", "b", "c"], "title": ["A", None, "C"], "popularity": [1, 5, 5]}
    )

    assert Catalog.from_frame(frame).by_popularity.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"item_id": ["a"], "title": ["A"]}), "lacks the column 'popularity'"),
        (
            pl.DataFrame({"item_id": ["a", "a"], "title": ["A", "B"], "popularity": [1, 2]}),
            "item_id twice",
        ),
    ],
)
def test_a_frame_that_is_no_catalog_is_refused(frame: pl.DataFrame, message: str) -> None:
    """The error names the column."""
    with pytest.raises(ModelError, match=message):
        Catalog.from_frame(frame)


@settings(max_examples=50)
@given(data=st.data())
def test_putting_items_replaces_their_rows(data: st.DataObject) -> None:
    """Order and popularity stay, all else is what was given; new items come last."""
    catalog = random_catalog(random_table())
    rows = {row["item_id"]: row for row in catalog.frame.rows(named=True)}
    names = st.sampled_from([*list(rows)[::6], "n0", "n1"])
    groups = st.lists(st.lists(names, max_size=4, unique=True), max_size=4)
    for year, group in enumerate(data.draw(groups)):
        columns = {"item_id": pl.Series(group, dtype=pl.String), "year": [year] * len(group)}
        catalog.put(catalog.like_its_own(pl.DataFrame(columns)))
        for name in group:
            popularity = rows.get(name, {"popularity": 0})["popularity"]
            row = {"item_id": name, "title": None, "popularity": popularity}
            rows[name] = row | {"brand": None, "year": year}

    assert catalog.frame.rows(named=True) == list(rows.values())
    assert catalog.titles == [row["title"] for row in rows.values()]
    assert catalog.item_ids == list(rows)
    assert [catalog.index_of(name) for name in rows] == list(range(len(rows)))


def test_many_changes_leave_the_frame_in_few_pieces() -> None:
    """Each splices rows in; now and then they are made one again."""
    catalog = random_catalog(random_table())
    last = {number % 40: number for number in range(3 * MAX_CHUNKS)}
    for number in range(3 * MAX_CHUNKS):
        name = f"i{number % 40}"
        catalog.put(catalog.like_its_own(pl.DataFrame({"item_id": [name], "year": [number]})))

    assert catalog.frame.n_chunks() <= MAX_CHUNKS
    assert catalog.frame["year"].to_list() == [last[item] for item in range(40)]
