"""What a filter compares: columns of the catalog and values written in the filter.

Operands that are alike are brought to one type first, such that whole numbers lose nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal as OneOf

import polars as pl
from polars import selectors

from model.errors import FilterError

MAX_SHOWN = 40
"""Characters of a filter that an error message repeats."""

Kind = OneOf["number", "text", "boolean", "date", "timestamp", "list", "other"]
PLURALS: dict[Kind, str] = {
    "number": "numbers",
    "text": "text",
    "boolean": "true or false",
    "date": "dates",
    "timestamp": "timestamps",
    "list": "lists",
    "other": "what no filter can compare",
}
FITS: dict[Kind, tuple[Kind, ...]] = {
    "number": ("number",),
    "text": ("text",),
    "boolean": ("boolean",),
    "date": ("date", "text"),
    "timestamp": ("timestamp", "date", "text"),
}
"""The kinds of values that a column of each kind may be compared with."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Column:
    """A column of the catalog, or the elements of one of its lists."""

    name: str
    dtype: pl.DataType

    @property
    def kind(self) -> Kind:
        """What the column holds."""
        return _kind(self.dtype)

    @property
    def key(self) -> str:
        """The name as SQL quotes it."""
        return '"' + self.name.replace('"', '""') + '"'

    @property
    def expression(self) -> pl.Expr:
        """The column itself; by selector, for pl.col takes names like `*` for patterns."""
        return selectors.by_name(self.name).as_expr()

    def __str__(self) -> str:
        return f"{shown(self.name)} holds {PLURALS[self.kind]} ({self.dtype})"


@dataclass(frozen=True)
class Literal:
    """A value written in a filter; dates and timestamps are kept as their text."""

    kind: Kind
    value: bool | int | float | str

    def __str__(self) -> str:
        return f"the {self.kind} {shown(str(self.value))}"


def shown(text: str) -> str:
    """A piece of a filter, quoted, cut and on one line, for an error message."""
    return repr(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "...")


def _kind(dtype: pl.DataType) -> Kind:
    if dtype.is_numeric() and dtype != pl.UInt128:  # whose numbers fit no other type
        return "number"
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "text"
    kinds: dict[type[pl.DataType], Kind] = {
        pl.Boolean: "boolean",
        pl.Date: "date",
        pl.Datetime: "timestamp",
        pl.List: "list",
    }
    return kinds.get(type(dtype), "other")


def refuse_unlike(column: Column, other: Column | Literal) -> None:
    """FilterError unless the two can be compared."""
    if isinstance(other, Literal):
        alike = other.kind in FITS.get(column.kind, ())
    else:
        alike = column.kind == other.kind and column.kind in FITS
        if column.kind == "timestamp":
            alike = column.dtype == other.dtype
    if not alike:
        named = other if isinstance(other, Literal) else f"{shown(other.name)} ({other.dtype})"
        hint = ", use array_contains" if column.kind == "list" else ""
        raise FilterError(f"{column}: it cannot be compared with {named}{hint}")


def common_type(operands: Sequence[Column | Literal]) -> pl.DataType:
    """The type in which operands that are alike are compared; whole numbers lose nothing."""
    dtypes = [operand.dtype for operand in operands if isinstance(operand, Column)]
    values = [operand.value for operand in operands if isinstance(operand, Literal)]
    if _kind(dtypes[0]) == "text":
        return pl.String()
    if _kind(dtypes[0]) != "number":
        return dtypes[0]
    if all(dtype.is_integer() for dtype in dtypes) and float not in map(type, values):
        small = not {pl.UInt64(), pl.Int128()} & set(dtypes)
        return pl.Int64() if small and all(value in INT64 for value in values) else pl.Int128()
    return pl.Float32() if set(dtypes) == {pl.Float32()} else pl.Float64()


def cast(operand: Column | Literal, dtype: pl.DataType) -> pl.Expr:
    """An operand as a type that common_type gave."""
    if isinstance(operand, Literal):
        return pl.lit(physical(operand, dtype), dtype=storage(dtype)).cast(dtype)
    return operand.expression if operand.dtype == dtype else operand.expression.cast(dtype)


def storage(dtype: pl.DataType) -> pl.DataType:
    """The type of what `physical` gives: a time's is a whole number."""
    return pl.Int64() if dtype.is_temporal() else dtype


def physical(literal: Literal, dtype: pl.DataType) -> bool | int | float | str:
    """The value as a type stores it: days or ticks since 1970 where that is a time."""
    if isinstance(dtype, pl.Date | pl.Datetime):
        text = str(literal.value)
        try:
            if isinstance(dtype, pl.Date):
                return date.fromisoformat(text).toordinal() - EPOCH.toordinal()
            return _ticks(datetime.fromisoformat(text), dtype)
        except ValueError as error:
            like = "date like 2001-12-31" if dtype == pl.Date else "timestamp like 2001-12-31 23:59"
            raise FilterError(f"{shown(text)} is no {like}: {error}") from error
    return float(literal.value) if dtype.is_float() else literal.value


def _ticks(moment: datetime, dtype: pl.Datetime) -> int:
    """Units of the type since 1970; ValueError where it cannot hold the moment."""
    if moment.tzinfo and not dtype.time_zone:
        raise ValueError("the column knows no time zone")
    if not moment.tzinfo:
        moment = moment.replace(tzinfo=UTC)
    microseconds = (moment - EPOCH) // timedelta(microseconds=1)
    if dtype.time_unit == "ms" and microseconds % 1000:
        raise ValueError("the column counts milliseconds")
    ticks = {"ms": microseconds // 1000, "us": microseconds, "ns": microseconds * 1000}
    if ticks[dtype.time_unit] not in INT64:
        raise ValueError("the column's nanoseconds do not reach so far")
    return ticks[dtype.time_unit]


def key_of(operand: Column | Literal, dtype: pl.DataType) -> str:
    """How a key names an operand, whatever way it was written."""
    if isinstance(operand, Column):
        return operand.key
    if operand.kind == "boolean":
        return str(operand.value).upper()
    if operand.kind == "number":
        return repr(operand.value)
    value = physical(operand, dtype)
    return quoted(value) if isinstance(value, str) else f"{dtype}({value})"


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
