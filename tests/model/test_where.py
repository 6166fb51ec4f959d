"""Filters: what they choose, and what is a filter at all."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.errors import FilterError
from model.where import parse
from tests.model.filters import (
    PATTERNS,
    SCHEMA,
    TEXTS,
    Sentence,
    frames,
    like,
    sentences,
    sql,
    texts,
)

WORDS = [
    *("AND", "or", "NOT", "in", "LIKE", "ILIKE", "BETWEEN", "IS", "NULL", "TRUE", "DATE", "SELECT"),
    *("(", ")", ",", "=", "<>", "!=", "<", "+", "-", ";", "--", "/*", "::", ".", "*", "'", '"'),
    *("year", "title", "price", "categories", '"Sci-Fi"', "released", "seen_at", "array_contains"),
    *("1995", "2.5", "1e400", "'a'", "'a%'", "'1995-01-01'", "''", "$1", "?", "\x00", "\ud800"),
]
VALUES: dict[pl.DataType, list[Any]] = {
    pl.Int8(): [-128, 127],
    pl.UInt64(): [0, 2**64 - 1],
    pl.Int128(): [-(2**127), 2**127 - 1],
    pl.UInt128(): [0, 2**128 - 1],
    pl.Float32(): [0.1, float("nan")],
    pl.Decimal(38, 2): [Decimal("0.10"), Decimal(10**36 - 1)],
    pl.String(): ["", "a"],
    pl.Categorical(): ["b", "a"],
    pl.Enum(["b", "a"]): ["b", "a"],
    pl.Binary(): [b"", b"\xff"],
    pl.Boolean(): [True, False],
    pl.Date(): [date(1, 1, 1), date(9999, 12, 31)],
    pl.Time(): [time(0), time(23)],
    pl.Duration("us"): [timedelta(0), timedelta(days=9)],
    pl.Datetime("ns"): [datetime(1680, 1, 1), datetime(2260, 1, 1)],
    pl.Datetime("ms", "Europe/Berlin"): [datetime(2001, 1, 1, hour, tzinfo=UTC) for hour in (0, 1)],
    pl.List(pl.Int8): [[1, None], []],
    pl.List(pl.Categorical): [["a", None], []],
    pl.List(pl.List(pl.String)): [[["a"]], []],
    pl.Array(pl.Int64, 2): [[1, 2], [3, 4]],
    pl.Struct({"a": pl.Int64}): [{"a": 1}, {"a": None}],
    pl.Object(): [object(), object()],
    pl.Null(): [None, None],
}
"""Two values of each type of column."""
QUESTIONS = [
    *("x = -1", "x < 18446744073709551615", "x >= 1.5", "x > 1e300", "x IN (1, 2.5, 1e30)"),
    *("x = 'a'", "x > '1995-01-01'", "x < TIMESTAMP '1500-01-01'", "x IN (DATE '9999-12-31')"),
    *(
        "x = '2001-01-01T00:00:00.0001+14:00'",
        "x LIKE 'a%'",
        "x NOT ILIKE '_'",
        "x",
        "NOT x = TRUE",
    ),
    *("array_contains(x, 1)", "array_contains(x, 'a')", "x = x", "x = y", "x IS NULL", "y > x"),
]


def frame_of(dtype: pl.DataType) -> pl.DataFrame:
    """Three rows: x of a type, its last value null, and the whole numbers y."""
    values = pl.Series("x", [*VALUES[dtype], None], dtype=dtype)
    return pl.DataFrame([values, pl.Series("y", [1, 2, None])])


def outcome(text: str, frame: pl.DataFrame) -> list[bool] | str:
    """The rows that a filter chooses, or why it is refused."""
    try:
        where = parse(text, frame.schema)
    except FilterError as error:
        return str(error)
    return [bool(chosen) for chosen in where.evaluate(frame)]


@given(sentence=sentences(), frame=frames())
def test_a_filter_chooses_the_rows_it_is_true_for(sentence: Sentence, frame: pl.DataFrame) -> None:
    """Row by row as SQL's three values have it; neither false nor null is chosen."""
    where = parse(sentence.text, SCHEMA)

    chosen = where.evaluate(frame)

    assert chosen.dtype == bool
    assert chosen.tolist() == [sentence.answer(row) is True for row in frame.rows(named=True)]


@given(text=texts(), frame=frames())
def test_a_filter_is_what_polars_takes_for_sql(text: str, frame: pl.DataFrame) -> None:
    """The text means the same to the SQL of polars, NOT before AND before OR."""
    expression = pl.sql_expr(text).fill_null(value=False)

    chosen = parse(text, SCHEMA).evaluate(frame)

    assert chosen.tolist() == frame.with_columns(x=expression)["x"].to_list()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_fits_the_whole_text(pattern: str) -> None:
    """Only % and _ are special, and a line break is a character like others."""
    frame = pl.DataFrame({"title": TEXTS})

    exact, folded = (outcome(f"title {word} {sql(pattern)}", frame) for word in ("LIKE", "ILIKE"))

    assert exact == [like(text, pattern) for text in TEXTS]
    assert folded == [like(text.lower(), pattern.lower()) for text in TEXTS]


@given(text=st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=12).map(" ".join))
@example("(" * 5_000)
@example("NOT " * 4_000 + "TRUE")
@example("9" * 15_000 + " = year")
@example("title = '" + "''" * 9_000)
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    """A filter gives a value for every row, an error one readable line; nothing else happens."""
    found = outcome(text, SCHEMA.to_frame().clear(2))

    assert str(found).isprintable()
    assert len(found) == 2 or isinstance(found, str)


@pytest.mark.parametrize("dtype", VALUES, ids=str)
def test_a_column_of_any_type_is_answered_or_refused(dtype: pl.DataType) -> None:
    """What is accepted is computed, whatever the type and its extremes."""
    found = [outcome(question, frame_of(dtype)) for question in QUESTIONS]

    assert {len(chosen) for chosen in found if isinstance(chosen, list)} == {3}


@pytest.mark.parametrize(
    ("dtype", "text", "chosen"),
    [
        (pl.Int8(), "x < 300", [True, True]),
        (pl.Int8(), "x IN (127, 128, 0.5)", [False, True]),
        (pl.Int8(), "x = y", [False, False]),
        (pl.UInt64(), "x > -1", [True, True]),
        (pl.UInt64(), "x = 18446744073709551615", [False, True]),
        (pl.UInt64(), "x <> 18446744073709551614.0", [True, True]),
        (pl.Float32(), "x = 0.1", [True, False]),
        (pl.Decimal(38, 2), "x = 0.1", [True, False]),
        (pl.Categorical(), "x < 'b'", [False, True]),
        (pl.Enum(["b", "a"]), "x < 'b'", [False, True]),
        (pl.Date(), "x = '9999-12-31'", [False, True]),
        (pl.Datetime("ns"), "x > DATE '1680-01-01'", [False, True]),
        (pl.Datetime("ms", "Europe/Berlin"), "x = '2001-01-01'", [True, False]),
        (pl.Datetime("ms", "Europe/Berlin"), "x = '2001-01-01T00:00:00-01:00'", [False, True]),
        (pl.List(pl.Int8), "array_contains(x, 1)", [True, False]),
        (pl.List(pl.Int8), "NOT array_contains(x, 300)", [True, True]),
        (pl.List(pl.Categorical), "array_contains(x, 'a')", [True, False]),
    ],
)
def test_a_value_meets_a_column_of_its_kind(
    dtype: pl.DataType, text: str, chosen: list[bool]
) -> None:
    """Small and large types answer exactly; a null is never chosen."""
    assert outcome(text, frame_of(dtype)) == [*chosen, False]


def test_whole_numbers_are_compared_exactly() -> None:
    """Two numbers that share a float are two numbers, beside a fraction too."""
    frame = pl.DataFrame({"year": [2**53, 2**53 + 1]})

    assert outcome("year = 9007199254740993", frame) == [False, True]
    assert outcome("year IN (9007199254740993, 0.5)", frame) == [False, True]
    assert outcome("year > 9007199254740992.0", frame) == [False, True]


@pytest.mark.parametrize("name", ["*", "^y.*$", 'a "b"', "in", "matches", "Année", ""])
def test_any_name_of_a_column_can_be_quoted(name: str) -> None:
    """In double quotes, which are doubled inside."""
    frame = pl.DataFrame({name: [1, 2], "year": [2, 2]})
    quoted = '"' + name.replace('"', '""') + '"'

    assert outcome(f"{quoted} = 2", frame) == [False, True]


def test_the_examples_of_the_documentation_are_filters() -> None:
    """Each line shown as SQL is one for the demo's catalog."""
    page = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
    lines = page.partition("```sql\n")[2].partition("```")[0].splitlines()
    numbers, texts = ["popularity", "year"], ["item_id", "title", "brand"]
    types = {**dict.fromkeys(numbers, pl.Int64()), **dict.fromkeys(texts, pl.String())}
    schema = pl.Schema({**types, "categories": pl.List(pl.String())})

    assert [parse(line, schema).text for line in lines] == lines


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (" year=1995 ", '"year" = 1995.0'),
        ("1995 <= year", "year >= 1995"),
        ("year != 1", "year <> 1"),
        ("year = 1 AND title = 'a'", "(title = 'a') and year = 1"),
        ("NOT year = 1 AND TRUE OR price = 1", "((NOT year = 1) AND TRUE) OR price = 1"),
        ("NOT NOT year = 1", "year = 1"),
        ("year IN (1, 2)", "year IN (2, 1, 1)"),
        ("year NOT IN (1)", "NOT year IN (1)"),
        ("year BETWEEN 1 AND 2", "year >= 1 AND year <= 2"),
        ("released > '1995-01-01'", "released > DATE '1995-01-01'"),
    ],
)
def test_what_means_the_same_shares_a_key(one: str, other: str) -> None:
    """Spelling, order and repetition make no difference."""
    assert parse(one, SCHEMA).key == parse(other, SCHEMA).key


@given(pair=st.tuples(sentences(3), sentences(3)), frame=frames())
def test_what_shares_a_key_chooses_the_same(
    pair: tuple[Sentence, Sentence], frame: pl.DataFrame
) -> None:
    """Different rows, different keys."""
    one, other = (parse(sentence.text, SCHEMA) for sentence in pair)

    same_rows = bool((one.evaluate(frame) == other.evaluate(frame)).all())

    assert one.key != other.key or same_rows
