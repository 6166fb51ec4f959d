"""The three Amazon releases, in small files of the same formats."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from model.errors import ModelError
from training.data_config import DatasetConfig
from training.dataset import prepare
from training.sources import load_source

OLD_REVIEWS = [
    {"reviewerID": "A1", "asin": "0001", "overall": 5.0, "unixReviewTime": 200},
    {"reviewerID": "A1", "asin": "B2", "overall": 1.0, "unixReviewTime": 100},
    {"reviewerID": "A2", "asin": "B2", "overall": 2.0, "unixReviewTime": 300},
]
NEW_REVIEWS = [
    {"user_id": "A1", "asin": "x", "parent_asin": "0001", "timestamp": 200_900},
    {"user_id": "A1", "asin": "y", "parent_asin": "B2", "timestamp": 100_000},
    {"user_id": "A2", "asin": "z", "parent_asin": "B2", "timestamp": 300_000},
]
PYTHON_ITEMS = (
    "{'asin': '0001', 'title': \"Men's wax &amp; comb\", 'brand': 'OPI', "
    "'categories': [['Beauty', 'Hair'], ['Gifts']]}\n"
    "{'asin': 'B2', 'related': {'also_bought': ['0001']}}\n"
)


def lines(rows: Sequence[Mapping[str, object]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def dump(folder: Path, reviews: str, items: str, name: str = "Beauty.json.gz") -> Path:
    """Reviews and items as a release calls them."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(gzip.compress(reviews.encode()))
    (folder / f"meta_{name}").write_bytes(gzip.compress(items.encode()))
    return folder


def config_of(kind: str, folder: Path, **settings: object) -> DatasetConfig:
    """A dataset table."""
    return DatasetConfig.model_validate({"kind": kind, "folder": folder, **settings})


def release(kind: str, folder: Path) -> Path:
    """The same two items and three reviews in the format of one release."""
    title = "Men's wax &amp; comb"
    path = ["Beauty", "Hair"]
    common: dict[str, object] = {"title": title, "categories": path, "category": path}
    old = lines([{"asin": "0001", "brand": "OPI", **common}, {"asin": "B2", "title": ""}])
    new = lines([{"parent_asin": "0001", "store": "OPI", **common}, {"parent_asin": "B2"}])
    if kind == "amazon2014":
        return dump(folder, lines(OLD_REVIEWS), PYTHON_ITEMS, "reviews_Beauty_5.json.gz")
    if kind == "amazon2018":
        return dump(folder, lines(OLD_REVIEWS), old, "All_Beauty_5.json.gz")
    return dump(folder, lines(NEW_REVIEWS), new, "All_Beauty.jsonl.gz")


@pytest.mark.parametrize("kind", ["amazon2014", "amazon2018", "amazon2023"])
def test_every_release_gives_the_same_data(tmp_path: Path, kind: str) -> None:
    """Users by appearance, items by time, in seconds; entities decoded; absent is null."""
    source = load_source(config_of(kind, release(kind, tmp_path)))

    assert source.interactions.rows() == [("A1", "B2", 100), ("A1", "0001", 200), ("A2", "B2", 300)]
    assert source.items.rows() == [
        ("0001", "Men's wax & comb", "OPI", ["Beauty", "Hair"]),
        ("B2", None, None, []),
    ]


def test_the_core_is_what_is_left_when_nothing_changes(tmp_path: Path) -> None:
    """A whole dump with the k-core filter, and without the items that nobody is left to buy."""
    bought = [(user, item) for user in "abc" for item in "xyz"] + [("d", "x"), ("a", "rare")]
    reviews = [
        {"reviewerID": user, "asin": item, "unixReviewTime": n}
        for n, (user, item) in enumerate(bought)
    ]
    items = [{"asin": item, "title": item} for item in ("x", "y", "z", "rare", "never")]
    folder = dump(tmp_path, lines(reviews), lines(items))

    found = prepare(
        config_of(
            "amazon2018",
            folder,
            min_user_interactions=3,
            min_item_interactions=3,
            cold_items="drop",
        )
    )

    assert found.interactions["user_id"].unique().sort().to_list() == ["a", "b", "c"]
    assert found.items["item_id"].to_list() == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("reviews", "items", "message"),
    [
        ("oops\n", PYTHON_ITEMS, r"Beauty\.json\.gz, line 1: neither a JSON object nor a Python"),
        ('\n{"asin": "B2"}\n', PYTHON_ITEMS, "line 2: reviewerID or asin is missing"),
        (
            '{"reviewerID": "A", "asin": "B", "unixReviewTime": "noon"}',
            PYTHON_ITEMS,
            "line 1: unixReviewTime is 'noon', not a whole number",
        ),
        (lines(OLD_REVIEWS), "{'title': 'x'}\n", r"meta_Beauty\.json\.gz, line 1: asin is missing"),
        (lines(NEW_REVIEWS), PYTHON_ITEMS, "is this the review file of that release"),
        ("", PYTHON_ITEMS, "holds no interaction"),
    ],
)
def test_a_line_that_cannot_be_understood_is_named(
    tmp_path: Path, reviews: str, items: str, message: str
) -> None:
    """With its file and number."""
    with pytest.raises(ModelError, match=message):
        load_source(config_of("amazon2014", dump(tmp_path, reviews, items)))


def test_a_download_that_was_cut_off_is_named(tmp_path: Path) -> None:
    """Not read as if it were whole."""
    folder = dump(tmp_path, lines(OLD_REVIEWS), PYTHON_ITEMS)
    whole = (folder / "Beauty.json.gz").read_bytes()
    (folder / "Beauty.json.gz").write_bytes(whole[:-12])

    with pytest.raises(ModelError, match=r"Beauty\.json\.gz: damaged"):
        load_source(config_of("amazon2014", folder))


def test_which_files_are_meant_must_be_plain(tmp_path: Path) -> None:
    """One of reviews, one of items; the folder must be there."""
    (dump(tmp_path / "dump", "", "") / "Beauty_5.json.gz").touch()

    with pytest.raises(ModelError, match=r"found Beauty\.json\.gz, Beauty_5\.json\.gz, meta_"):
        load_source(config_of("amazon2018", tmp_path / "dump"))
    with pytest.raises(ModelError, match="no such folder"):
        load_source(config_of("amazon2018", tmp_path / "nowhere"))
