"""Readers: what comes out of good files (test_tables.py has the bad ones)."""

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from model.errors import ModelError
from tests.training.data_folders import ITEMS, write_folder
from training.data_config import DatasetConfig
from training.sources import Source, load_source, ml100k_folder

HEADER = "user_id\titem_id\ttimestamp\n"


def load(folder: Path, **settings: object) -> Source:
    """Read a generic folder."""
    return load_source(
        DatasetConfig.model_validate({"kind": "folder", "folder": folder, **settings})
    )


def rows_of(source: Source) -> list[tuple[str, str, int | None]]:
    """The interactions as tuples."""
    return source.interactions.rows()


@pytest.mark.parametrize("name", ["interactions.tsv", "interactions.tsv.gz"])
def test_users_come_in_order_of_appearance_and_items_by_time(tmp_path: Path, name: str) -> None:
    """Ids stay text: 007 keeps its zeros."""
    source = load(write_folder(tmp_path, events_name=name))

    assert rows_of(source) == [
        ("u2", "9", 50),
        ("u2", "007", 100),
        ("u1", "007", 200),
        ("u1", "8", 300),
    ]


def test_rows_of_one_second_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Ties are not broken by id."""
    source = load(write_folder(tmp_path, f"{HEADER}u\tb\t5\nu\ta\t5\nu\tc\t4\n"))

    assert [item for _, item, _ in rows_of(source)] == ["c", "b", "a"]


def test_a_position_goes_before_the_time(tmp_path: Path) -> None:
    """Where both columns are given, position decides and timestamps may be missing."""
    events = "user_id\titem_id\tposition\ttimestamp\nu\ta\t1\t\nu\tb\t0\t9\n"

    assert rows_of(load(write_folder(tmp_path, events))) == [("u", "b", 9), ("u", "a", None)]


def test_an_empty_position_column_is_as_good_as_none(tmp_path: Path) -> None:
    """The timestamps order then."""
    events = "user_id\titem_id\tposition\ttimestamp\nu\ta\t\t7\nu\tb\t\t6\n"

    assert rows_of(load(write_folder(tmp_path, events))) == [("u", "b", 6), ("u", "a", 7)]


@pytest.mark.parametrize("drop", [True, False])
def test_equal_rows_are_dropped_and_counted(tmp_path: Path, drop: bool) -> None:
    """The same user, item and time again is a logging fault unless the recipe says otherwise."""
    events = f"{HEADER}u\ta\t5\nu\tb\t5\nu\ta\t5\nu\ta\t6\n"

    source = load(write_folder(tmp_path, events), drop_duplicates=drop)

    assert source.interactions.height == 4 - drop
    assert source.num_duplicates == drop


def test_csv_fields_may_hold_separators_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    """Quoting follows csv; a blank line at the end is no interaction."""
    events = 'user_id,item_id,timestamp\r\n"a,b",1,881250949.0\r\n\r\n'

    assert rows_of(load(write_folder(tmp_path, events, events_name="interactions.csv"))) == [
        ("a,b", "1", 881250949)
    ]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_parquet_may_hold_whole_numbers_and_datetimes(tmp_path: Path, suffix: str) -> None:
    """Integers become text, datetimes seconds; fractions of a second still order."""
    folder = write_folder(tmp_path)
    (folder / "interactions.tsv").unlink()
    times = pl.Series(["1970-01-01 00:00:01.9", "1970-01-01 00:00:01.2"]).str.to_datetime()
    frame = pl.DataFrame({"user_id": [7, 7], "item_id": [8, 9], "timestamp": times})
    frame.write_parquet(folder / "interactions.parquet")
    content = (folder / "interactions.parquet").read_bytes()
    (folder / "interactions.parquet").unlink()
    packed = gzip.compress(content) if suffix else content
    (folder / f"interactions.parquet{suffix}").write_bytes(packed)

    assert rows_of(load(folder)) == [("7", "9", 1), ("7", "8", 1)]


def test_floats_in_parquet_count_if_they_are_whole(tmp_path: Path) -> None:
    """Tools that know no missing integers write floats."""
    folder = write_folder(tmp_path)
    (folder / "interactions.tsv").unlink()
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "position": [0.0]})
    frame.write_parquet(folder / "interactions.parquet")

    assert rows_of(load(folder)) == [("u", "a", None)]


def test_milliseconds_are_divided(tmp_path: Path) -> None:
    """Two events of one second still stand in order."""
    events = f"{HEADER}u\ta\t1318896000900\nu\tb\t1318896000100\n"

    source = load(write_folder(tmp_path, events), timestamp_unit="ms")

    assert rows_of(source) == [("u", "b", 1318896000), ("u", "a", 1318896000)]


def test_items_are_tidied(tmp_path: Path) -> None:
    """White space joined, own columns ignored, others kept by name, the first of two rows wins."""
    items: list[Mapping[str, object]] = [
        {**ITEMS[0], "index": 1, "popularity": 9, "year": 1999, "colour": None},
        {"item_id": "007", "title": "other"},
    ]

    source = load(write_folder(tmp_path, items=items))

    assert source.items.columns == ["item_id", "title", "brand", "categories", "colour", "year"]
    assert source.items.rows() == [
        ("007", "Red nail polish", "OPI", ["Beauty", "Nails"], None, 1999)
    ]
    assert source.items.schema["colour"] == pl.String
    assert source.num_duplicate_items == 1


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_items_of_text_tables_split_their_categories(
    tmp_path: Path, suffix: str, separator: str
) -> None:
    """`Beauty|Nails` is two categories."""
    folder = write_folder(tmp_path)
    (folder / "items.jsonl").unlink()
    rows = [["item_id", "title", "categories"], ["007", "x", "Beauty| Nails|"], ["8", "", ""]]
    text = "".join(f"{separator.join(row)}\n" for row in rows)
    (folder / f"items.{suffix}").write_text(text)

    assert load(folder).items.rows() == [
        ("007", "x", None, ["Beauty", "Nails"]),
        ("8", None, None, []),
    ]


def test_items_need_no_brand_and_no_categories(tmp_path: Path) -> None:
    """The columns are there all the same."""
    items = [{"item_id": 7, "title": "x"}]

    assert load(write_folder(tmp_path, items=items)).items.rows() == [("7", "x", None, [])]


def write_ml100k(folder: Path) -> Path:
    """Two users and two films in recbole's format."""
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "10\t9\t1\t7\n9\t10\t5\t7\n9\t9\t3\t7\n9\t2\t3\t8\n"
    )
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "2\tToy Story\t1995\tAnimation Children's\n9\tunkonwn\tunkonwn\tunknown\n"
    )
    return folder


def test_ml100k_is_ordered_by_number(tmp_path: Path) -> None:
    """Users by number, items by time and then number; the title ends in its year."""
    source = load_source(DatasetConfig(kind="ml100k", folder=write_ml100k(tmp_path)))

    assert rows_of(source) == [("9", "9", 7), ("9", "10", 7), ("9", "2", 8), ("10", "9", 7)]
    assert source.items.rows() == [
        ("2", "Toy Story (1995)", None, ["Animation", "Children's"], 1995),
        ("9", "unkonwn (unkonwn)", None, ["unknown"], None),
    ]


def test_an_incomplete_ml100k_folder_is_named(tmp_path: Path) -> None:
    """The file that is missing, by its path."""
    folder = write_ml100k(tmp_path)
    (folder / "ml-100k.item").unlink()

    with pytest.raises(ModelError, match=r"ml-100k\.item: no such file"):
        load_source(DatasetConfig(kind="ml100k", folder=folder))


def test_ml100k_is_found_inside_a_package_that_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code would need much that is not installed."""
    folder = tmp_path / "carrier" / "dataset_example" / "ml-100k"
    folder.mkdir(parents=True)
    (tmp_path / "carrier" / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)

    assert ml100k_folder("carrier") == folder


@pytest.mark.parametrize("package", ["no_such_package", "polars"])
def test_without_ml100k_the_command_that_gets_it_is_named(package: str) -> None:
    """One line that can be pasted."""
    with pytest.raises(ModelError, match=r"pip install --no-deps recbole==1\.2\.1"):
        ml100k_folder(package)


@pytest.mark.skipif("STAMP_TEST_DATA" not in os.environ, reason="STAMP_TEST_DATA names no folder")
def test_ml100k_equals_its_published_conversion() -> None:
    """The package's files and the converted ones give the same users, sequences and titles."""
    own = load_source(DatasetConfig(kind="ml100k"))
    published = load(Path(os.environ["STAMP_TEST_DATA"]) / "ml100k")

    assert own.interactions.equals(published.interactions)
    assert own.items.drop("year").equals(published.items)
