"""Random filters, each with what it must answer, and random rows to ask about.

A `Sentence` is the text of a filter beside a plain Python function from a row to True, False or
None (SQL's NULL). Literals and patterns are drawn from few values, so that rows do meet them.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
from hypothesis import strategies as st

Row = Mapping[str, Any]
Answer = bool | None

SCHEMA = pl.Schema(
    {
        "item_id": pl.String(),
        "title": pl.String(),
        "popularity": pl.Int64(),
        "Sci-Fi": pl.Boolean(),
        "categories": pl.List(pl.String()),
        "price": pl.Float64(),
        "released": pl.Date(),
        "seen_at": pl.Datetime("us"),
        "year": pl.Int64(),
    }
)
TEXTS = ["", "a", "A", "ab", "aé", "a%", "a_b", "a.b", "it's", "x\ny", "\\", "(?i)", "É"]
PATTERNS = [*TEXTS, "%", "a%", "%b", "%É%", "_", "a_", "%a%_", "a%b", "_%_", "%%", "%.%"]
INTEGERS = [-1, 0, 1, 2, 1995, 2**53, 2**53 + 1, -(2**63), 2**63 - 1]
FLOATS = [-1.5, -0.0, 0.0, 0.1, 0.3, 1.0, 2.5, 1995.0, 1e300, float("inf"), float("nan")]
DATES = [date(1969, 12, 31), date(1995, 1, 1), date(2024, 2, 29)]
TIMES = [datetime(day.year, day.month, day.day, hour) for day in DATES for hour in (0, 7)]
VALUES: dict[str, list[Any]] = {
    "item_id": TEXTS,
    "title": TEXTS,
    "popularity": INTEGERS,
    "Sci-Fi": [True, False],
    "categories": [[], ["a"], ["b", "a"], ["it's", None]],
    "price": FLOATS,
    "released": DATES,
    "seen_at": TIMES,
    "year": INTEGERS,
}
COMPARABLE = [name for name in VALUES if name not in ("categories", "Sci-Fi")]
ALIKE = [("item_id", "title"), ("popularity", "year"), ("price", "price")]
COMPARISONS = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Sentence:
    """A filter and what it answers for a row."""

    text: str
    answer: Callable[[Row], Answer]


def frames(max_rows: int = 6) -> st.SearchStrategy[pl.DataFrame]:
    """Catalogs of SCHEMA, every value null now and then."""
    row = st.fixed_dictionaries(
        {name: st.none() | st.sampled_from(values) for name, values in VALUES.items()}
    )
    return st.lists(row, max_size=max_rows).map(lambda rows: pl.DataFrame(rows, schema=SCHEMA))


def sentences(max_leaves: int = 6) -> st.SearchStrategy[Sentence]:
    """Filters over SCHEMA."""
    leaves = st.one_of(
        comparisons(),
        column_pairs(),
        lists(),
        patterns(),
        ranges(),
        nulls(),
        memberships(),
        flags(),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(negation),
            st.tuples(inner, inner).map(conjunction),
            st.tuples(inner, inner).map(disjunction),
        ),
        max_leaves=max_leaves,
    )


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Filters over SCHEMA without more parentheses than needed: what binds first is left open."""
    words = draw(st.lists(st.sampled_from(["AND", "OR", "AND NOT", "OR NOT"]), max_size=3))
    start = draw(st.sampled_from(["", "NOT "])) + draw(sentences(2)).text
    return start + "".join(f" {word} {draw(sentences(2)).text}" for word in words)


def sql(value: object) -> str:
    """A value as SQL writes it."""
    match value:
        case bool():
            return str(value).upper()
        case str():
            return "'" + value.replace("'", "''") + "'"
        case datetime():
            return f"TIMESTAMP '{value:%Y-%m-%d %H:%M:%S}'"
        case date():
            return f"DATE '{value}'"
    return repr(value)


def name_of(column: str) -> str:
    """A column as SQL writes it."""
    return f'"{column}"' if "-" in column else column


def ordered(value: float) -> tuple[bool, float]:
    """A number by its order in polars: NaN equals itself and is the largest."""
    return (True, 0.0) if math.isnan(value) else (False, value)


def compared(left: Any, symbol: str, right: Any) -> Answer:
    """`left symbol right`, null where one of them is."""
    if left is None or right is None:
        return None
    if isinstance(left, float) or isinstance(right, float):
        left, right = ordered(left), ordered(right)
    return bool(COMPARISONS[symbol](left, right))


def like(text: str, pattern: str) -> bool:
    """Whether a pattern fits a text, by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(like(text[start:], pattern[1:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and like(text[1:], pattern[1:])


def negation(sentence: Sentence) -> Sentence:
    """NOT."""

    def answer(row: Row) -> Answer:
        inner = sentence.answer(row)
        return None if inner is None else not inner

    return Sentence(f"NOT ({sentence.text})", answer)


def conjunction(pair: tuple[Sentence, Sentence]) -> Sentence:
    """AND: false where one is, else null where one is."""

    def answer(row: Row) -> Answer:
        answers = [sentence.answer(row) for sentence in pair]
        return False if False in answers else None if None in answers else True

    return Sentence(f"({pair[0].text}) AND ({pair[1].text})", answer)


def disjunction(pair: tuple[Sentence, Sentence]) -> Sentence:
    """OR: true where one is, else null where one is."""

    def answer(row: Row) -> Answer:
        answers = [sentence.answer(row) for sentence in pair]
        return True if True in answers else None if None in answers else False

    return Sentence(f"({pair[0].text}) OR ({pair[1].text})", answer)


def finite(column: str) -> st.SearchStrategy[Any]:
    """A literal for a column: what SQL can write."""
    return st.sampled_from([value for value in VALUES[column] if str(value) not in ("inf", "nan")])


@st.composite
def comparisons(draw: st.DrawFn) -> Sentence:
    """A column and a value, in either order."""
    column = draw(st.sampled_from(COMPARABLE))
    symbol, value = draw(st.sampled_from(sorted(COMPARISONS))), draw(finite(column))
    if draw(st.booleans()):
        text = f"{name_of(column)} {symbol} {sql(value)}"
        return Sentence(text, lambda row: compared(row[column], symbol, value))
    text = f"{sql(value)} {symbol} {name_of(column)}"
    return Sentence(text, lambda row: compared(value, symbol, row[column]))


@st.composite
def column_pairs(draw: st.DrawFn) -> Sentence:
    """Two columns of one type."""
    left, right = draw(st.sampled_from(ALIKE))
    symbol = draw(st.sampled_from(sorted(COMPARISONS)))
    return Sentence(f"{left} {symbol} {right}", lambda row: compared(row[left], symbol, row[right]))


@st.composite
def lists(draw: st.DrawFn) -> Sentence:
    """IN and NOT IN."""
    column = draw(st.sampled_from(COMPARABLE))
    values: Sequence[Any] = draw(st.lists(finite(column), min_size=1, max_size=4))
    text = ", ".join(map(sql, values))
    wanted = draw(st.booleans())

    def answer(row: Row) -> Answer:
        answers = [compared(row[column], "=", value) for value in values]
        return None if None in answers else (True in answers) == wanted

    return Sentence(f"{name_of(column)} {'' if wanted else 'NOT '}IN ({text})", answer)


@st.composite
def patterns(draw: st.DrawFn) -> Sentence:
    """LIKE, NOT LIKE, ILIKE and NOT ILIKE."""
    column, pattern = draw(st.sampled_from(["item_id", "title"])), draw(st.sampled_from(PATTERNS))
    word, wanted = draw(st.sampled_from(["LIKE", "ILIKE"])), draw(st.booleans())
    change = str.lower if word == "ILIKE" else str

    def answer(row: Row) -> Answer:
        text = row[column]
        return None if text is None else like(change(text), change(pattern)) == wanted

    return Sentence(f"{column} {'' if wanted else 'NOT '}{word} {sql(pattern)}", answer)


@st.composite
def ranges(draw: st.DrawFn) -> Sentence:
    """BETWEEN and NOT BETWEEN."""
    column = draw(st.sampled_from(COMPARABLE))
    low, high = draw(finite(column)), draw(finite(column))
    wanted = draw(st.booleans())
    text = f"{name_of(column)} {'' if wanted else 'NOT '}BETWEEN {sql(low)} AND {sql(high)}"

    def answer(row: Row) -> Answer:
        both = [compared(row[column], ">=", low), compared(row[column], "<=", high)]
        return None if None in both else (False not in both) == wanted

    return Sentence(text, answer)


@st.composite
def nulls(draw: st.DrawFn) -> Sentence:
    """IS NULL and IS NOT NULL, for a column of any type."""
    column, wanted = draw(st.sampled_from(sorted(VALUES))), draw(st.booleans())
    text = f"{name_of(column)} IS {'' if wanted else 'NOT '}NULL"
    return Sentence(text, lambda row: (row[column] is None) == wanted)


@st.composite
def memberships(draw: st.DrawFn) -> Sentence:
    """array_contains."""
    value = draw(st.sampled_from(["a", "b", "it's", "nothing"]))
    text = f"array_contains(categories, {sql(value)})"
    return Sentence(
        text, lambda row: None if row["categories"] is None else value in row["categories"]
    )


def flags() -> st.SearchStrategy[Sentence]:
    """A boolean column, alone and compared, and the constants."""
    return st.sampled_from(
        [
            Sentence('"Sci-Fi"', lambda row: row["Sci-Fi"]),
            Sentence('"Sci-Fi" = FALSE', lambda row: compared(row["Sci-Fi"], "=", False)),
            Sentence("TRUE", lambda _: True),
            Sentence("FALSE", lambda _: False),
        ]
    )
