"""Conditions: what a filter may ask of the catalog's columns, checked before it is computed.

A condition is a polars expression over booleans (rows,) with SQL's three values (true, false,
null), and a key: equal keys give equal answers on the same catalog. Every function below makes one,
or raises FilterError when the types do not fit.
"""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from model.errors import FilterError
from model.where_values import (
    Column,
    Literal,
    cast,
    common_type,
    key_of,
    physical,
    quoted,
    refuse_unlike,
    shown,
    storage,
)

MAX_SINGLE_WILDCARDS = 10
"""`_` in one pattern: each doubles the states in which a text may have to be searched."""

COMPARISONS: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FLIPPED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Condition:
    """An expression that is true, false or null for every row, and its key."""

    key: str
    expression: pl.Expr = field(compare=False, repr=False)


def constant(*, value: bool) -> Condition:
    """TRUE or FALSE for every row."""
    return Condition(str(value).upper(), pl.lit(value))


def holds(column: Column) -> Condition:
    """A boolean column by itself."""
    return Condition(column.key, column.expression)


def is_null(column: Column) -> Condition:
    """`column IS NULL`, for a column of any type."""
    return Condition(f"{column.key} IS NULL", column.expression.is_null())


def compare(left: Column | Literal, symbol: str, right: Column | Literal) -> Condition:
    """`left symbol right`, the symbol one of COMPARISONS; one side at least is a column."""
    if isinstance(left, Literal):
        left, symbol, right = right, FLIPPED[symbol], left
    if isinstance(left, Literal):
        raise FilterError(f"{right} {FLIPPED[symbol]} {left}: one side must be a column")
    if left.kind == "boolean" and symbol not in ("=", "<>"):
        raise FilterError(f"{left}: it has no order, use = or <>")
    refuse_unlike(left, right)
    dtype = common_type([left, right])
    result = COMPARISONS[symbol](cast(left, dtype), cast(right, dtype))
    return Condition(f"{left.key} {symbol} {key_of(right, dtype)}", result)


def is_in(column: Column, literals: Sequence[Literal]) -> Condition:
    """`column IN (literals)`; null where the column is."""
    for literal in literals:
        refuse_unlike(column, literal)
    whole = column.dtype.is_integer()
    possible = [each for each in literals if not (whole and isinstance(each.value, float))]
    dtype = common_type([column, *possible])
    values = [physical(literal, dtype) for literal in possible]
    known = pl.Series(values, dtype=storage(dtype)).cast(dtype)
    keys = ", ".join(sorted({key_of(literal, dtype) for literal in literals}))
    return Condition(f"{column.key} IN ({keys})", cast(column, dtype).is_in(known.implode()))


def is_like(column: Column, pattern: str, *, ignore_case: bool) -> Condition:
    """`column LIKE pattern`: % is any text, _ any one character, all others themselves."""
    if column.kind != "text":
        raise FilterError(f"{column}: LIKE is for text")
    if pattern.count("_") > MAX_SINGLE_WILDCARDS:
        raise FilterError(
            f"the pattern {shown(pattern)} holds more than {MAX_SINGLE_WILDCARDS} _ wildcards"
        )
    pieces = {"%": ".*", "_": "."}
    parts = re.split(r"(%|_)", re.sub("%+", "%", pattern).strip("%"))
    body = "".join(pieces.get(part) or pl.escape_regex(part) for part in parts)
    start = "" if pattern.startswith("%") else r"\A"
    end = "" if pattern.endswith("%") else r"\z"
    regex = f"(?{'is' if ignore_case else 's'}){start}{body}{end}"
    word = "ILIKE" if ignore_case else "LIKE"
    key = f"{column.key} {word} {quoted(pattern)}"
    return Condition(key, cast(column, pl.String()).str.contains(regex))


def contains(column: Column, literal: Literal) -> Condition:
    """`array_contains(column, literal)`: the list holds the value; null where the list is."""
    if not isinstance(column.dtype, pl.List):
        raise FilterError(f"{column}: array_contains is for lists")
    inner = column.dtype.inner
    elements = Column(column.name, inner() if isinstance(inner, type) else inner)
    refuse_unlike(elements, literal)
    dtype = common_type([elements, literal])
    lists = column.expression.cast(pl.List(dtype)) if elements.dtype != dtype else column.expression
    found = lists.list.contains(cast(literal, dtype))
    return Condition(f"array_contains({column.key}, {key_of(literal, dtype)})", found)


def negate(condition: Condition) -> Condition:
    """NOT: null stays null."""
    return Condition(f"NOT ({condition.key})", ~condition.expression)


def every(conditions: Sequence[Condition]) -> Condition:
    """AND; the key knows neither order nor repetition."""
    return _joined(" AND ", conditions, pl.all_horizontal)


def some(conditions: Sequence[Condition]) -> Condition:
    """OR; the key knows neither order nor repetition."""
    return _joined(" OR ", conditions, pl.any_horizontal)


def _joined(
    word: str, conditions: Sequence[Condition], function: Callable[..., pl.Expr]
) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    key = word.join(sorted({f"({condition.key})" for condition in conditions}))
    return Condition(key, function(condition.expression for condition in conditions))
