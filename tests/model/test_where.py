"""Filters: what they choose, what is refused, and how it is said."""

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.errors import FilterError
from model.where import MAX_DEPTH, MAX_LIST_LENGTH, MAX_NODES, MAX_TEXT_LENGTH, parse
from tests.model.filters import SCHEMA, Sentence, frames, sentences

WORDS = [
    *("AND", "or", "NOT", "in", "LIKE", "ILIKE", "BETWEEN", "IS", "NULL", "TRUE", "DATE", "SELECT"),
    *("(", ")", ",", "=", "<>", "!=", "<", "<=", "+", "-", ";", "--", "/*", "::", ".", "*", "'", '"'),
    *("year", "title", "price", "categories", '"Sci-Fi"', "released", "seen_at", "array_contains"),
    *("0", "1995", "2.5", "1e400", "'a'", "'a%'", "'1995-01-01'", "''", "$1", "?", "\x00", "\ud800"),
]


@given(sentence=sentences(), frame=frames())
def test_a_filter_chooses_the_rows_it_is_true_for(sentence: Sentence, frame: pl.DataFrame) -> None:
    """Row by row as SQL's three values have it; neither false nor null is chosen."""
    where = parse(sentence.text, SCHEMA)

    chosen = where.evaluate(frame)

    assert chosen.tolist() == [sentence.answer(row) is True for row in frame.rows(named=True)]


@given(sentence=sentences(), frame=frames())
def test_a_filter_is_what_polars_takes_for_sql(sentence: Sentence, frame: pl.DataFrame) -> None:
    """The text means the same to the SQL of polars."""
    expression = pl.sql_expr(sentence.text)

    chosen = parse(sentence.text, SCHEMA).evaluate(frame)

    assert chosen.tolist() == frame.with_columns(x=expression)["x"].fill_null(value=False).to_list()
