"""What is said about files that cannot be read."""

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from model.errors import ModelError
from tests.training.data_folders import EVENTS, write_folder
from training.data_config import DatasetConfig
from training.sources import Source, load_source

HEADER = "user_id\titem_id\ttimestamp\n"


def load(folder: Path) -> Source:
    """Read a generic folder."""
    return load_source(DatasetConfig(kind="folder", folder=folder))


BAD_EVENTS: Sequence[tuple[str, str | bytes, str]] = (
    (
        "interactions.tsv.gz",
        f"{HEADER}u\ta\t1\nu\tb\tabc\nu\tb\tx\n",
        "interactions.tsv.gz, line 3: timestamp 'abc' is not a whole number of seconds "
        "(and 1 more such rows); correct it or remove the row",
    ),
    ("interactions.tsv", f"{HEADER}u\ta\t1.5\n", "line 2: timestamp '1.5' is not a whole number"),
    ("interactions.tsv", f"{HEADER}\nu\ta\t{{x}}\n", "line 3: timestamp '{x}' is not a whole"),
    ("interactions.tsv", f"{HEADER}u\ta\t\n", "line 2: timestamp is empty; fill it in"),
    ("interactions.tsv", f"{HEADER}u\t\t1\n", "line 2: item_id is empty; fill it in or remove"),
    ("interactions.tsv", f"{HEADER}u\ta\t1\n\ta\t1\n", "line 3: user_id is empty"),
    ("interactions.tsv", f"{HEADER}u\ta\n", "line 2: timestamp is empty"),
    ("interactions.tsv", f"{HEADER}u\ta\t1\t2\n", "line 2: 4 fields, but the header has 3"),
    ("interactions.tsv", HEADER.encode() + b"u\t\xff\t1\n", "line 2: is not UTF-8"),
    ("interactions.tsv", HEADER, "holds no interaction"),
    ("interactions.tsv", "", "interactions.tsv: is empty; it needs data"),
    ("interactions.tsv", "user_id\ttimestamp\n", "column item_id is missing; found user_id, time"),
    ("interactions.tsv", "user_id\titem_id\nu\ta\n", "neither a column position nor timestamp"),
    (
        "interactions.tsv",
        f"{HEADER}u\ta\t1318896000000\n",
        "line 2: timestamp 1318896000000 is no time in seconds; if these are milliseconds, set "
        'timestamp_unit = "ms"',
    ),
    (
        "interactions.tsv",
        "user_id\titem_id\tposition\nu\ta\t0\nu\tb\tx\n",
        "line 3: position 'x' is not a whole number; correct",
    ),
    (
        "interactions.csv",
        'user_id,item_id,timestamp\n"two\nlines",a,1\nu,b,soon\n',
        "interactions.csv, line 4: timestamp 'soon' is not a whole number of seconds",
    ),
    (
        "interactions.csv",
        'user_id,item_id,timestamp\n"two\nlines",a,1\nu,b,1,2\n',
        "interactions.csv, line 4: 4 fields, but the header has 3",
    ),
    ("interactions.parquet", b"PAR1 or not", "interactions.parquet: cannot be read: "),
)


@pytest.mark.parametrize(("name", "events", "message"), BAD_EVENTS)
def test_a_broken_interaction_is_named(
    tmp_path: Path, name: str, events: str | bytes, message: str
) -> None:
    """File, line, what was found and what to do."""
    folder = write_folder(tmp_path, events, events_name=name)

    with pytest.raises(ModelError, match=re.escape(message)):
        load(folder)


def test_a_truncated_gzip_file_is_called_damaged(tmp_path: Path) -> None:
    """A download that stopped early is not half a data set."""
    folder = write_folder(tmp_path, EVENTS * 500, events_name="interactions.tsv.gz")
    path = folder / "interactions.tsv.gz"
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(ModelError, match=r"interactions\.tsv\.gz: damaged .*fetch the file again"):
        load(folder)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"item_id": "a", "title": "x"}\n\n{"item_id": 1\n', "line 3: is not a JSON object"),
        ('{"item_id": "a", "title": "x"}\n[1]\n', "line 2: is not a JSON object"),
        ('\n{"item_id": "a", "title": "x"}\n{"title": "x"}\n', "line 3: item_id is empty"),
        ('{"item_id": "a"}\n', "column title is missing; found item_id"),
        ('{"item_id": 1.5, "title": "x"}\n', "item_id is stored as Float64; store it as text"),
        (
            '{"item_id": "a", "title": "x", "n": {"b": 1}}\n'
            '{"item_id": "b", "title": "x", "n": [1]}\n',
            "items.jsonl: cannot be read: failed to determine supertype",
        ),
    ],
)
def test_a_broken_item_is_named(tmp_path: Path, lines: str, message: str) -> None:
    """File, line, what was found and what to do."""
    folder = write_folder(tmp_path)
    (folder / "items.jsonl").write_text(lines)

    with pytest.raises(ModelError, match=re.escape(message)):
        load(folder)


def test_a_missing_folder_a_missing_file_and_two_files_are_named(tmp_path: Path) -> None:
    """Nothing is guessed."""
    folder = write_folder(tmp_path / "data")

    with pytest.raises(ModelError, match="no such folder"):
        load(tmp_path / "elsewhere")
    (folder / "interactions.csv").touch()
    with pytest.raises(ModelError, match=r"both interactions.tsv and interactions.csv; keep one"):
        load(folder)
    (folder / "items.jsonl").unlink()
    (folder / "interactions.csv").unlink()
    with pytest.raises(ModelError, match=r"no items file; expected one of items.jsonl, items.tsv"):
        load(folder)


def test_damaged_parquet_is_named_whether_packed_or_not(tmp_path: Path) -> None:
    """A wrong compression and a cut file give one line each."""
    folder = write_folder(tmp_path, b"", events_name="interactions.parquet")
    (folder / "interactions.parquet").rename(folder / "interactions.parquet.gz")

    with pytest.raises(ModelError, match=r"interactions\.parquet\.gz: cannot be read"):
        load(folder)


def test_an_open_quote_is_named(tmp_path: Path) -> None:
    """The rest of the file would be one field."""
    events = 'user_id,item_id,timestamp\nu,a,1\nu,"b,2\nu,c,3\n'

    with pytest.raises(ModelError, match=r"interactions\.csv, line 3: "):
        load(write_folder(tmp_path, events, events_name="interactions.csv"))


def test_parquet_has_rows_instead_of_lines(tmp_path: Path) -> None:
    """Counted from 1."""
    folder = write_folder(tmp_path, events_name="interactions.parquet")
    columns = {"user_id": ["u", "u"], "item_id": ["a", None], "position": [0, 1]}
    pl.DataFrame(columns).write_parquet(folder / "interactions.parquet")

    with pytest.raises(ModelError, match=r"interactions\.parquet, row 2: item_id is empty"):
        load(folder)
