"""Amazon review dumps as published: one object a line, reviews in one file, items in meta_*.

Releases differ in the names of fields. The items of 2014 are Python literals, not JSON.
"""

import ast
import gzip
import html
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from model.errors import ModelError

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Release:
    """What one release calls its fields."""

    user: str
    item: str
    time: str
    brand: str
    categories: str
    timestamp_unit: str


RELEASES = {
    "amazon2014": Release("reviewerID", "asin", "unixReviewTime", "brand", "categories", "s"),
    "amazon2018": Release("reviewerID", "asin", "unixReviewTime", "brand", "category", "s"),
    "amazon2023": Release("user_id", "parent_asin", "timestamp", "store", "categories", "ms"),
}


def amazon_files(folder: Path) -> tuple[Path, Path]:
    """The reviews and the items of a dump: the one file called meta_*, and the one that is not."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; give the one that holds the data")
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    meta = [path for path in files if path.name.startswith("meta_")]
    reviews = [path for path in files if not path.name.startswith("meta_")]
    if len(meta) != 1 or len(reviews) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise ModelError(
            f"{folder}: needs one file of reviews and one of items, meta_*, as .json(.gz) or "
            f".jsonl(.gz); found {found}"
        )
    return reviews[0], meta[0]


def scan_reviews(path: Path, release: Release) -> pl.LazyFrame:
    """user_id, item_id and timestamp (in the release's unit) of every review."""
    rows = []
    for number, row in _objects(path):
        user, item, time = (row.get(name) for name in (release.user, release.item, release.time))
        if not (isinstance(user, str) and user and isinstance(item, str) and item):
            raise ModelError(
                f"{path.name}, line {number}: {release.user} or {release.item} is missing; is this "
                "the review file of that release?"
            )
        if not isinstance(time, int):
            raise ModelError(
                f"{path.name}, line {number}: {release.time} is {time!r}, not a whole number"
            )
        rows.append((user, item, time))
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    return pl.LazyFrame(rows, schema=schema, orient="row")


def scan_items(path: Path, release: Release) -> pl.LazyFrame:
    """item_id, title, brand, categories (general to special) of every item."""
    rows = []
    for number, row in _objects(path):
        item = row.get(release.item)
        if not (isinstance(item, str) and item):
            raise ModelError(
                f"{path.name}, line {number}: {release.item} is missing; is this the item file of "
                "that release?"
            )
        title, brand = (_text(row.get(name)) for name in ("title", release.brand))
        rows.append((item, title, brand, _categories(row.get(release.categories))))
    types = [pl.String(), pl.String(), pl.String(), pl.List(pl.String)]
    schema = pl.Schema(zip(("item_id", "title", "brand", "categories"), types, strict=True))
    return pl.LazyFrame(rows, schema=schema, orient="row")


def _objects(path: Path) -> Iterator[tuple[int, Row]]:
    """Each line's number, from 1, and what it holds."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _object(path, number, line)
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"{path.name}: damaged ({error}); fetch the file again") from error


def _object(path: Path, number: int, line: bytes) -> Row:
    try:
        found = json.loads(line)
    except ValueError:
        try:
            found = ast.literal_eval(line.decode())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = None
    if not isinstance(found, dict):
        raise ModelError(
            f"{path.name}, line {number}: neither a JSON object nor a Python one; "
            "fetch the file again"
        )
    return found


def _text(value: object) -> str | None:
    return html.unescape(value) if isinstance(value, str) else None


def _categories(value: object) -> list[str]:
    """The first path where there are several, as in 2014."""
    path = value[0] if isinstance(value, list) and value and isinstance(value[0], list) else value
    names = path if isinstance(path, list) else []
    return [html.unescape(name) for name in names if isinstance(name, str)]
