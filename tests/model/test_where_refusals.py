"""Filters: what is refused, and how it is said."""

from typing import Literal

import polars as pl
import pytest

from model.errors import FilterError
from model.where import MAX_DEPTH, MAX_LIST_LENGTH, MAX_NODES, MAX_TEXT_LENGTH, parse
from tests.model.filters import SCHEMA


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: expected a column or a value, found the end"),
        ("year >", "character 7: expected a column or a value, found the end"),
        ("year = 1 -- why", "character 10: expected AND, OR or the end, found '-'"),
        ("year = 1; year = 2", "character 9: expected AND, OR or the end, found ';'"),
        ("year + 1 = 2", "character 6: expected a comparison after 'year', found '+'"),
        ("year::text = '1'", "character 5: expected a comparison after 'year', found ':'"),
        ("title ~ '.*'", "character 7: expected a comparison after 'title', found '~'"),
        ("1", "character 2: expected a comparison after the number '1', found the end"),
        ("-year = 1", "character 2: expected a number after -, found 'year'"),
        ("year NOT 3", "character 10: expected IN, LIKE, ILIKE or BETWEEN, found '3'"),
        ("year IN ()", "character 10: expected a column or a value, found ')'"),
        ("(year = 1", "character 10: expected ), found the end"),
        ("title = 'abc", "character 9: the quote opened here is never closed"),
        ("title LIKE item_id", "character 12: expected a pattern in single quotes"),
        ("title = '\ud800'", "character 10 is half of a surrogate pair"),
        ("Year = 1", "no column 'Year', did you mean 'year'?; the columns are item_id, title, "),
        ('title = "Toy"', "no column 'Toy'; text stands in single quotes; the columns are"),
        ("year IN (SELECT x FROM read_csv('nothing.csv'))", "no column 'SELECT'"),
        ("lower(title) = 'a'", "no function 'lower', only array_contains"),
        ("title IN (item_id)", "'item_id' holds text (String): only a value may stand there"),
        (
            "year = 'abc'",
            "'year' holds numbers (Int64): it cannot be compared with the text 'abc'",
        ),
        ("title > 3", "'title' holds text (String): it cannot be compared with the number '3'"),
        ("title IN ('a', 3)", "cannot be compared with the number '3'"),
        ("year = title", "cannot be compared with 'title' (String)"),
        ("year LIKE '1%'", "LIKE is for text"),
        ("categories = 'a'", "cannot be compared with the text 'a', use array_contains"),
        ("array_contains(title, 'a')", "array_contains is for lists"),
        ("array_contains('a', categories)", "the text 'a': ARRAY_CONTAINS is for columns"),
        ('"Sci-Fi" > FALSE', "it has no order, use = or <>"),
        ("1 = 1", "the number '1' = the number '1': one side must be a column"),
        ("year = NULL", "nothing equals NULL and nothing differs from it: write IS NULL"),
        ("price = 1e999", "the number '1e999' is too large"),
        ("released > 'soon'", "'soon' is no date like 2001-12-31: Invalid isoformat string"),
        (
            "seen_at > '2001-01-01T00:00Z'",
            "is no timestamp like 2001-12-31 23:59: the column knows no time zone",
        ),
        ("title LIKE '___________'", "holds more than 10 _ wildcards"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    """Where it is, what was found and what there is instead."""
    with pytest.raises(FilterError) as refusal:
        parse(text, SCHEMA)

    assert message in str(refusal.value)


def test_what_polars_cannot_compute_is_refused() -> None:
    """Its reason is passed on, here for a type that no frame has."""
    schema = pl.Schema({"at": pl.Datetime("us", "Nowhere/Never"), "year": pl.Int64()})

    with pytest.raises(FilterError, match="cannot be computed: unable to parse time zone"):
        parse("at > '2001-01-01'", schema)


@pytest.mark.parametrize(
    ("unit", "text", "reason"),
    [
        ("ms", "2001-01-01 00:00:00.0001", "the column counts milliseconds"),
        ("ns", "1500-01-01", "the column's nanoseconds do not reach so far"),
        ("us", "2001-01-01 00:00+01:00", "the column knows no time zone"),
    ],
)
def test_a_time_that_the_column_cannot_hold_is_refused(
    unit: Literal["ms", "us", "ns"], text: str, reason: str
) -> None:
    """Rather than rounded to one that it can."""
    schema = pl.Schema({"at": pl.Datetime(unit)})

    with pytest.raises(FilterError, match=reason):
        parse(f"at = '{text}'", schema)


@pytest.mark.parametrize(
    ("piece", "joint", "most"),
    [
        ("TRUE", " OR ", MAX_NODES),
        ("title LIKE 'a%'", " OR ", MAX_NODES // 5),
        ("array_contains(categories, 'a')", " AND ", MAX_NODES // 5),
    ],
)
def test_a_filter_has_so_many_tests(piece: str, joint: str, most: int) -> None:
    """MAX_NODES comparisons, or a fifth as many searches, and no more."""
    assert parse(joint.join([piece] * most), SCHEMA).text.startswith(piece)
    with pytest.raises(FilterError, match="at most 200 tests"):
        parse(joint.join([piece] * (most + 1)), SCHEMA)


@pytest.mark.parametrize(
    ("most", "too_many", "message"),
    [
        (
            "year IN (" + "1, " * (MAX_LIST_LENGTH - 1) + "1)",
            "year IN (" + "1, " * MAX_LIST_LENGTH + "1)",
            "IN takes at most 1000 values, not 1001",
        ),
        (
            "(" * MAX_DEPTH + "TRUE" + ")" * MAX_DEPTH,
            "(" * (MAX_DEPTH + 1) + "TRUE" + ")" * (MAX_DEPTH + 1),
            "at most 50 parentheses",
        ),
        (
            "TRUE".ljust(MAX_TEXT_LENGTH),
            "TRUE".ljust(MAX_TEXT_LENGTH + 1),
            "at most 20000 characters, not 20001",
        ),
    ],
    ids=["list", "depth", "length"],
)
def test_a_filter_has_a_size(most: str, too_many: str, message: str) -> None:
    """The largest is read, the next one refused."""
    assert parse(most, SCHEMA).text == most.strip()
    with pytest.raises(FilterError, match=message):
        parse(too_many, SCHEMA)
