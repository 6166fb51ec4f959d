"""Where: a filter in the syntax of SQL's WHERE, checked once, evaluated on the whole catalog.

The grammar, words in any case (docs/filters.md shows it by examples):

    some      = every {OR every}
    every     = negation {AND negation}
    negation  = {NOT} predicate
    predicate = "(" some ")" | array_contains "(" column "," value ")" | operand [test]
    test      = (= | <> | != | < | <= | > | >=) operand | IS [NOT] NULL | [NOT] choice
    choice    = IN "(" value {"," value} ")" | (LIKE | ILIKE) text | BETWEEN operand AND operand
    operand   = column | value
    value     = text | [-] number | TRUE | FALSE | DATE text | TIMESTAMP text
"""

import difflib
import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from model import where_conditions as conditions
from model.errors import FilterError
from model.where_conditions import COMPARISONS, Condition
from model.where_tokens import Cursor
from model.where_values import MAX_SHOWN, Column, Kind, Literal, shown

MAX_TEXT_LENGTH = 20_000
"""Characters of a filter: room for an IN list of MAX_LIST_LENGTH item ids."""
MAX_NODES = 200
"""Tests of one filter; a search in texts or lists counts as SEARCH_NODES."""
SEARCH_NODES = 5
"""How much longer a search takes than a comparison, roughly and at least."""
MAX_LIST_LENGTH = 1_000
"""Values of one IN list."""
MAX_DEPTH = 50
"""Parentheses within parentheses."""

CHOICES = ("IN", "LIKE", "ILIKE", "BETWEEN")
RESERVED = ("AND", "OR", "NOT", "IS", "NULL", *CHOICES)


@dataclass(frozen=True)
class Where:
    """A filter that fits the columns of a schema."""

    text: str
    key: str
    """A hash: filters with equal keys choose the same rows of the same catalog."""
    expression: pl.Expr = field(compare=False, repr=False)

    def evaluate(self, frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """The rows it holds for, (rows,) bool; SQL's NULL counts as False.

        The frame has the schema that the filter was parsed with.
        """
        matches = self.expression.fill_null(value=False).alias("matches")
        return frame.with_columns(matches).get_column("matches").to_numpy()


def parse(text: str, schema: pl.Schema) -> Where:
    """Read a filter and check it against the catalog's columns, or raise FilterError.

    No text makes it read a file, and what it returns never fails on a frame of that schema.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise FilterError(f"a filter has at most {MAX_TEXT_LENGTH} characters, not {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FilterError(f"character {error.start + 1} is half of a surrogate pair") from error
    try:
        condition = _Parser(text, schema).read()
        key = hashlib.sha256(condition.key.encode()).hexdigest()
        where = Where(text.strip(), key, condition.expression)
        where.evaluate(_row_of_nulls(schema))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).partition("\n")[0]
        raise FilterError(f"the filter cannot be computed: {reason}") from error
    return where


def _row_of_nulls(schema: pl.Schema) -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series([None], dtype=dtype) for name, dtype in schema.items()})


class _Parser:
    """Reads one filter; a method for each rule of the grammar."""

    def __init__(self, text: str, schema: pl.Schema) -> None:
        self._at = Cursor(text)
        self._schema = schema
        self._num_nodes = 0
        self._depth = 0

    def read(self) -> Condition:
        condition = self._some()
        if self._at.token.kind != "end":
            self._at.fail("AND, OR or the end")
        return condition

    def _some(self) -> Condition:
        parts = [self._every()]
        while self._at.take("OR"):
            parts.append(self._every())
        return conditions.some(parts)

    def _every(self) -> Condition:
        parts = [self._negation()]
        while self._at.take("AND"):
            parts.append(self._negation())
        return conditions.every(parts)

    def _negation(self) -> Condition:
        negated = False
        while self._at.take("NOT"):
            negated = not negated
        condition = self._predicate()
        return conditions.negate(condition) if negated else condition

    def _predicate(self) -> Condition:
        if self._at.take("("):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise FilterError(f"a filter has at most {MAX_DEPTH} parentheses in each other")
            condition = self._some()
            self._at.expect(")")
            self._depth -= 1
            return condition
        self._count(1)
        if self._at.calls == "ARRAY_CONTAINS":
            return self._contains()
        return self._test(self._operand())

    def _contains(self) -> Condition:
        self._count(SEARCH_NODES - 1)
        word = self._at.take("ARRAY_CONTAINS")
        self._at.expect("(")
        column = _as_column(self._operand(), word)
        self._at.expect(",")
        value = self._value()
        self._at.expect(")")
        return conditions.contains(column, value)

    def _test(self, operand: Column | Literal) -> Condition:
        if symbol := self._at.take("!=", *COMPARISONS):
            symbol = "<>" if symbol == "!=" else symbol
            return conditions.compare(operand, symbol, self._operand())
        if self._at.take("IS"):
            negated = self._at.take("NOT")
            self._at.expect("NULL")
            condition = conditions.is_null(_as_column(operand, "IS NULL"))
            return conditions.negate(condition) if negated else condition
        if self._at.take("NOT"):
            if self._at.token.word not in CHOICES:
                self._at.fail("IN, LIKE, ILIKE or BETWEEN")
            return conditions.negate(self._choice(operand))
        if self._at.token.word in CHOICES:
            return self._choice(operand)
        if operand.kind != "boolean":
            name = shown(operand.name) if isinstance(operand, Column) else operand
            self._at.fail(f"a comparison after {name}")
        if isinstance(operand, Column):
            return conditions.holds(operand)
        return conditions.constant(value=bool(operand.value))

    def _choice(self, operand: Column | Literal) -> Condition:
        word = self._at.take(*CHOICES)
        column = _as_column(operand, word)
        if word == "IN":
            return conditions.is_in(column, self._list())
        if word == "BETWEEN":
            low = conditions.compare(column, ">=", self._operand())
            self._at.expect("AND")
            return conditions.every([low, conditions.compare(column, "<=", self._operand())])
        self._count(SEARCH_NODES - 1)
        if self._at.token.kind != "text":
            self._at.fail("a pattern in single quotes")
        pattern = self._at.advance().content
        return conditions.is_like(column, pattern, ignore_case=word == "ILIKE")

    def _list(self) -> list[Literal]:
        self._at.expect("(")
        values = [self._value()]
        while self._at.take(","):
            values.append(self._value())
        self._at.expect(")")
        if len(values) > MAX_LIST_LENGTH:
            raise FilterError(f"IN takes at most {MAX_LIST_LENGTH} values, not {len(values)}")
        return values

    def _value(self) -> Literal:
        operand = self._operand()
        if isinstance(operand, Column):
            raise FilterError(f"{operand}: only a value may stand there, not a column")
        return operand

    def _operand(self) -> Column | Literal:
        if self._at.calls and self._at.calls not in RESERVED:
            name = shown(self._at.token.text)
            raise FilterError(f"there is no function {name}, only array_contains")
        if sign := self._at.take("-", "+"):
            if self._at.token.kind != "number":
                self._at.fail(f"a number after {sign}")
            number = self._at.advance().number
            return Literal("number", -number if sign == "-" else number)
        token = self._at.token
        if token.word == "NULL":
            raise FilterError("nothing equals NULL and nothing differs from it: write IS NULL")
        if token.kind in ("symbol", "end") or token.word in RESERVED:
            self._at.fail("a column or a value")
        self._at.advance()
        match token.kind, token.word:
            case "number", _:
                return Literal("number", token.number)
            case "text", _:
                return Literal("text", token.content)
            case "word", "TRUE" | "FALSE":
                return Literal("boolean", token.word == "TRUE")
            case "word", "DATE" | "TIMESTAMP" if self._at.token.kind == "text":
                kind: Kind = "date" if token.word == "DATE" else "timestamp"
                return Literal(kind, self._at.advance().content)
        return self._column(token.content if token.kind == "name" else token.text)

    def _column(self, name: str) -> Column:
        if name in self._schema:
            return Column(name, self._schema[name])
        names = {known.lower(): known for known in self._schema.names()}
        close = difflib.get_close_matches(name[:MAX_SHOWN].lower(), names, n=1)
        hint = f", did you mean {names[close[0]]!r}?" if close else "; text stands in single quotes"
        raise FilterError(
            f"there is no column {shown(name)}{hint}; the columns are {', '.join(self._schema)}"
        )

    def _count(self, nodes: int) -> None:
        self._num_nodes += nodes
        if self._num_nodes > MAX_NODES:
            raise FilterError(
                f"a filter has at most {MAX_NODES} tests, where a search in text or lists counts "
                f"as {SEARCH_NODES}"
            )


def _as_column(operand: Column | Literal, word: str) -> Column:
    if isinstance(operand, Literal):
        raise FilterError(f"{operand}: {word} is for columns")
    return operand
