"""The prepared folder: order, catalog, texts, filters, card."""

import datetime as dt
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from model.errors import ModelError
from tests.training.data_folders import EVENTS, write_folder
from training.card import render_card
from training.data_config import DatasetConfig
from training.dataset import Prepared, prepare, read_card, read_histories, read_items

HEADER = "user_id\titem_id\ttimestamp\n"
DAY = 86_400


def prepared(folder: Path, **settings: object) -> Prepared:
    """Prepare a generic folder."""
    config = {"kind": "folder", "folder": folder, **settings}
    return prepare(DatasetConfig.model_validate(config))


def shown(table: Table) -> str:
    """A table as the terminal shows it."""
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_folder_holds_what_the_next_step_reads(tmp_path: Path) -> None:
    """Four files; histories come back as rows of the catalog."""
    found = prepared(write_folder(tmp_path / "raw"))

    found.write(tmp_path / "data")

    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {"card.json", "histories.parquet", "interactions.parquet", "items.parquet"}
    histories = read_histories(tmp_path / "data")
    assert histories.user_ids == ["u2", "u1"]
    assert [histories.history(user).tolist() for user in range(2)] == [[2, 0], [0, 1]]
    assert histories.timestamps is not None
    assert histories.timestamps.tolist() == [50, 100, 200, 300]
    assert read_items(tmp_path / "data").equals(found.items)
    assert read_card(tmp_path / "data") == found.card
    stored = pl.read_parquet(tmp_path / "data" / "histories.parquet")
    assert stored.rows() == [("u2", ["9", "007"]), ("u1", ["007", "8"])]


def test_positions_are_counted_from_zero(tmp_path: Path) -> None:
    """Whatever numbers the source had."""
    events = "user_id\titem_id\tposition\nu\ta\t7\nv\ta\t1\nu\tb\t3\n"

    found = prepared(write_folder(tmp_path, events))

    assert found.interactions.rows() == [
        ("u", "b", 0, None),
        ("u", "a", 1, None),
        ("v", "a", 0, None),
    ]
    assert found.interactions.schema["timestamp"] == pl.Int64


def test_an_item_without_text_is_embedded_by_its_id(tmp_path: Path) -> None:
    """Absent parts are left out; the card counts and names who has none."""
    found = prepared(write_folder(tmp_path))

    assert found.items["text"].to_list() == [
        "Red nail polish. Brand: OPI. Categories: Beauty, Nails",
        "Blue shampoo",
        "9",
    ]
    assert found.card.items_without_title == found.card.items_without_text == 1
    assert found.card.items_without_text_examples == ["9"]


def test_a_recipe_chooses_the_text(tmp_path: Path) -> None:
    """The first field stands bare, the others under their names; numbers become text."""
    items = [{"item_id": "007", "title": "x", "release_year": 1999, "note": "n"}]

    found = prepared(
        write_folder(tmp_path, items=items), text_fields=("note", "title", "release_year")
    )

    assert found.items["text"][0] == "n. Title: x. Release year: 1999"


def test_an_unknown_text_field_is_named(tmp_path: Path) -> None:
    """With the columns there are."""
    with pytest.raises(ModelError, match="text_fields: no column 'colour'; the items have item_id"):
        prepared(write_folder(tmp_path), text_fields=("colour",))


def test_unknown_items_are_kept_dropped_or_refused(tmp_path: Path) -> None:
    """Kept ones follow the catalog, with null for all we do not know."""
    folder = write_folder(tmp_path, EVENTS + "u1\tnew\t400\n")

    kept = prepared(folder)
    dropped = prepared(folder, unknown_items="drop")

    assert kept.items.row(3) == ("new", None, "new", None, [])
    assert kept.card.unknown_items_examples == ["new"]
    assert dropped.items.height == 3
    assert dropped.card.interactions_filtered == dropped.card.unknown_items == 1
    with pytest.raises(ModelError, match=r"1 interactions are with items .*first 'new'"):
        prepared(folder, unknown_items="error")
    assert prepared(write_folder(tmp_path / "known"), unknown_items="error").items.height == 3


@pytest.mark.parametrize(("cold_items", "kept"), [("keep", ["007", "8", "9"]), ("drop", ["8"])])
def test_cold_items_stay_if_wanted(tmp_path: Path, cold_items: str, kept: list[str]) -> None:
    """An item without interactions can still be recommended."""
    found = prepared(write_folder(tmp_path, f"{HEADER}u\t8\t1\n"), cold_items=cold_items)

    assert found.items["item_id"].to_list() == kept
    assert found.card.cold_items == len(kept) - 1


def test_the_core_filter_goes_on_until_nothing_changes(tmp_path: Path) -> None:
    """Dropping a user makes an item rare, whose loss makes another user short."""
    pairs = ["ua", "ub", "va", "vb", "wb", "wc", "xc"]
    events = HEADER + "".join(f"{pair[0]}\t{pair[1]}\t{n}\n" for n, pair in enumerate(pairs))

    found = prepared(
        write_folder(tmp_path, events), min_user_interactions=2, min_item_interactions=2
    )

    assert found.interactions.select("user_id", "item_id").rows() == [
        ("u", "a"),
        ("u", "b"),
        ("v", "a"),
        ("v", "b"),
    ]
    assert found.card.interactions_filtered == 3


def test_a_filter_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    """An empty data set would fail much later."""
    with pytest.raises(ModelError, match="no interaction is left"):
        prepared(write_folder(tmp_path), min_user_interactions=9)


def test_the_card_counts(tmp_path: Path) -> None:
    """Lengths, repeats, same-day steps, the dates, the short users."""
    rows = [("u", "007", 0), ("u", "8", 9), ("u", "007", DAY), ("u", "8", DAY + 9), ("v", "8", 5)]
    events = HEADER + "".join(f"{user}\t{item}\t{time}\n" for user, item, time in rows)

    card = prepared(write_folder(tmp_path, events + "v\t8\t5\n")).card

    assert (card.users, card.items, card.interactions) == (2, 3, 5)
    assert card.density == pytest.approx(5 / 6)
    assert card.history_lengths["mean"] == 2.5
    assert (card.history_lengths["min"], card.history_lengths["max"]) == (1, 4)
    assert card.repeats == 2
    assert card.same_day_share == pytest.approx(2 / 3)
    assert (card.first_day, card.last_day) == (dt.date(1970, 1, 1), dt.date(1970, 1, 2))
    assert card.users_without_test == card.duplicates_dropped == card.cold_items == 1


def test_the_card_is_shown_with_its_findings(tmp_path: Path) -> None:
    """Faults appear with examples, what is in order does not."""
    text = shown(render_card(prepared(write_folder(tmp_path)).card))

    assert "items without any text" in text
    assert "1 (9)" in text
    assert "1970-01-01 to 1970-01-01" in text
    assert "duplicate" not in text


def test_many_examples_are_cut(tmp_path: Path) -> None:
    """Five names are enough to look one up."""
    items: list[Mapping[str, object]] = [{"item_id": str(n), "title": None} for n in range(7)]
    folder = write_folder(tmp_path, "user_id\titem_id\tposition\nu\t1\t0\n", items)

    text = shown(render_card(prepared(folder).card))

    assert "7 (0, 1, 2, 3, 4, ...)" in text
    assert "steps within one day" not in text


def test_an_interrupted_write_leaves_no_card(tmp_path: Path) -> None:
    """The card is written last and removed first: where it is, the rest is whole."""
    found = prepared(write_folder(tmp_path / "raw"))
    found.write(tmp_path / "data")
    (tmp_path / "data" / "items.parquet").unlink()
    (tmp_path / "data" / "items.parquet").mkdir()

    with pytest.raises(OSError, match=r"items\.parquet"):
        found.write(tmp_path / "data")

    assert not (tmp_path / "data" / "card.json").exists()


def test_histories_without_all_times_have_none(tmp_path: Path) -> None:
    """Half of the times order nothing."""
    events = "user_id\titem_id\tposition\ttimestamp\nu\t8\t0\t\nu\t9\t1\t5\n"
    prepared(write_folder(tmp_path / "raw", events)).write(tmp_path / "data")

    histories = read_histories(tmp_path / "data")

    assert histories.timestamps is None
    np.testing.assert_array_equal(histories.popularity(3), [0, 1, 1])


def test_a_folder_source_needs_its_folder() -> None:
    """Said when the recipe is read."""
    with pytest.raises(ValidationError, match='kind = "folder" needs folder'):
        DatasetConfig(kind="folder")
