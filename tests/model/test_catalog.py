"""Catalog: ids, titles, popularity, attributes."""

import polars as pl
import pytest

from model.catalog import Catalog
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
