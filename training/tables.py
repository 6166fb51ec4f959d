"""Tables that people bring: tsv, csv, jsonl or parquet, gzipped or not.

Text columns of tsv and csv stay text, so "007" stays "007". Every fault is a ModelError that names
the file, and the line where the format has lines (the first line is line 1).
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn

import polars as pl

from model.errors import ModelError

UNREADABLE = (pl.exceptions.PolarsError, OSError, EOFError, UnicodeError)


def find_table(folder: Path, name: str, suffixes: Sequence[str]) -> Path:
    """The one file in `folder` called `name` with one of the suffixes, gzipped or not."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; give the one that holds the data")
    names = [f"{name}{suffix}{gz}" for suffix in suffixes for gz in ("", ".gz")]
    found = [folder / candidate for candidate in names if (folder / candidate).is_file()]
    if not found:
        wanted = ", ".join(f"{name}{suffix}" for suffix in suffixes)
        raise ModelError(f"{folder}: no {name} file; expected one of {wanted} (or gzipped, .gz)")
    if len(found) > 1:
        raise ModelError(f"{folder}: both {found[0].name} and {found[1].name}; keep one of them")
    return found[0]


def suffix_of(path: Path) -> str:
    """What kind of table a file is: `.tsv` for `interactions.tsv.gz`."""
    return Path(path.name.removesuffix(".gz")).suffix


def scan_table(path: Path) -> pl.LazyFrame:
    """All columns of a table, lazily; text files give text columns, empty fields are null."""
    try:
        match suffix_of(path):
            case ".csv":
                return pl.scan_csv(path, infer_schema=False)
            case ".jsonl":
                return pl.scan_ndjson(path, infer_schema_length=None)
            case ".parquet" if path.suffix == ".gz":
                return pl.read_parquet(gzip.decompress(path.read_bytes())).lazy()
            case ".parquet":
                return pl.scan_parquet(path)
            case _:
                return pl.scan_csv(path, separator="\t", quote_char=None, infer_schema=False)
    except (*UNREADABLE, zlib.error) as error:
        _explain(path, error)


def schema_of(path: Path, table: pl.LazyFrame, required: Sequence[str]) -> pl.Schema:
    """Column names and types of a query on `path`; ModelError if a required one is missing."""
    try:
        schema = table.collect_schema()
    except UNREADABLE as error:
        _explain(path, error)
    missing = [column for column in required if column not in schema]
    if missing:
        raise ModelError(
            f"{path.name}: column {', '.join(missing)} is missing; found {', '.join(schema)}"
        )
    return schema


def collect(path: Path, query: pl.LazyFrame) -> pl.DataFrame:
    """Run a query on the table at `path`; ModelError if the file cannot be read to its end."""
    try:
        return query.collect()
    except UNREADABLE as error:
        _explain(path, error)


def refuse_rows(path: Path, frame: pl.DataFrame, bad: pl.Expr, complaint: str, advice: str) -> None:
    """ModelError that names the first bad row, if there is one, and counts the others.

    Args:
        path: the file the frame was read from.
        frame: has a column `row`, counted from 0 in the file.
        bad: true for a row that must not be.
        complaint: what is wrong; `{value}` becomes the frame's column `value`, if it has one.
        advice: what to do.
    """
    rows = frame.filter(bad)
    if rows.is_empty():
        return
    others = f" (and {rows.height - 1:,} more such rows)" if rows.height > 1 else ""
    value = rows["value"][0] if "value" in rows.columns else None
    place = _place_of(path, rows["row"][0])
    raise ModelError(f"{place}: {complaint.format(value=value)}{others}; {advice}")


def _place_of(path: Path, row: int) -> str:
    match suffix_of(path):
        case ".parquet":
            return f"{path.name}, row {row + 1}"
        case ".csv":
            line, _ = next(islice(_csv_records(path), row + 1, None))
        case ".jsonl" | ".json":
            filled = (number for number, text in _lines(path) if text.strip())
            line = next(islice(filled, row, None))
        case _:
            line = row + 2
    return f"{path.name}, line {line}"


def _explain(path: Path, error: Exception) -> NoReturn:
    """Raise a ModelError that names the line a reader stumbled over, as far as one can be found."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file") from error
    try:
        fault = _first_fault(path)
    except (OSError, EOFError, zlib.error) as damage:
        raise ModelError(f"{path.name}: damaged ({damage}); fetch the file again") from error
    summary = str(error).partition("\n")[0]
    raise ModelError(fault or f"{path.name}: cannot be read: {summary}") from error


def _first_fault(path: Path) -> str | None:
    suffix = suffix_of(path)
    if suffix == ".parquet":
        return None
    number = 0
    for number, line in _lines(path):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return f"{path.name}, line {number}: is not UTF-8; convert the file to UTF-8"
        if suffix == ".jsonl" and text.strip() and not _is_json_object(text):
            return f"{path.name}, line {number}: is not a JSON object; write one object a line"
    if number == 0:
        return f"{path.name}: is empty; it needs data"
    return None if suffix == ".jsonl" else _first_long_record(path)


def _first_long_record(path: Path) -> str | None:
    records = _csv_records(path)
    if suffix_of(path) != ".csv":
        records = ((number, line.decode().split("\t")) for number, line in _lines(path))
    width = len(next(records)[1])
    for number, record in records:
        if len(record) > width:
            return (
                f"{path.name}, line {number}: {len(record)} fields, but the header has {width}; "
                "remove or quote what is too much"
            )
    return None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from enumerate(file, start=1)


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    # A quoted field may hold line breaks: each record comes with the line it starts on.
    reader = csv.reader((line.decode("utf-8") for _, line in _lines(path)), strict=True)
    start = 1
    try:
        for record in reader:
            yield start, record
            start = reader.line_num + 1
    except csv.Error as error:
        raise ModelError(f"{path.name}, line {start}: {error}; is a quote left open?") from error


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False
