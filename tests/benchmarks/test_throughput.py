"""The engine's throughput, on a tiny bundle."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from benchmarks.throughput import BATCH_ROWS, CACHES, app, measure, read_queries
from model.bundle import save_bundle
from model.errors import ModelError
from tests.factories import random_bundle


def write_histories(folder: Path, histories: list[list[str] | None]) -> Path:
    """A file as `import-histories` reads it."""
    path = folder / "histories.parquet"
    users = [str(user) for user in range(len(histories))]
    pl.DataFrame({"user_id": users, "item_ids": histories}).write_parquet(path)
    return path


def test_users_with_long_histories_come_most_often(tmp_path: Path) -> None:
    """Unknown items are left out, users without any too; histories end at the model's length."""
    bundle = random_bundle()
    ids = bundle.catalog.item_ids
    longest = bundle.manifest.model.max_history_items
    path = write_histories(tmp_path, [ids[:2], [], None, ["unknown"], ids[: longest + 3]])

    histories = [tuple(query.history) for query in read_queries(path, bundle)]

    assert set(histories) == {(0, 1), tuple(range(3, longest + 3))}
    assert histories.count((0, 1)) < len(histories) / 2


def test_a_file_of_strangers_is_refused(tmp_path: Path) -> None:
    """And one that holds no histories."""
    bundle = random_bundle()
    with pytest.raises(ModelError, match="no user has an item"):
        read_queries(write_histories(tmp_path, [["unknown"]]), bundle)

    (tmp_path / "histories.parquet").write_text("none", "utf-8")
    with pytest.raises(ModelError, match="not a parquet file"):
        read_queries(tmp_path / "histories.parquet", bundle)


def test_each_batch_size_is_measured_with_and_without_the_cache(tmp_path: Path) -> None:
    """Only a cache holds anything; the one user there is, is always held."""
    bundle = random_bundle()
    queries = read_queries(write_histories(tmp_path, [bundle.catalog.item_ids[:3]]), bundle)

    cells = measure(bundle, queries, budget_s=0)

    assert [(cell.cache, cell.rows) for cell in cells] == [
        (cache, rows) for cache in CACHES for rows in BATCH_ROWS
    ]
    assert {cell.cache: cell.hits for cell in cells} == {"no cache": 0, "cache of 256 MB": 1}
    assert all(cell.per_second > 0 for cell in cells)


def test_the_command_line_writes_what_it_shows(tmp_path: Path) -> None:
    """And tells in one line what is wrong."""
    bundle = random_bundle()
    parts = (bundle.build_model(), bundle.catalog, bundle.sids, bundle.placement)
    save_bundle(tmp_path / "bundles", bundle.manifest, *parts)
    data = write_histories(tmp_path, [bundle.catalog.item_ids[:3]])
    where = (str(tmp_path / "bundles"), "--data", str(data), "--seconds", "0")

    done = CliRunner().invoke(app, [*where, "--json", str(tmp_path / "found.json")])
    failed = CliRunner().invoke(app, [str(tmp_path), "--data", str(data)])

    assert done.exit_code == 0, done.output
    assert "recommendations/s" in done.stdout
    assert len(json.loads((tmp_path / "found.json").read_text("utf-8"))["cells"]) == 6
    assert (failed.exit_code, failed.stderr.count("\n")) == (2, 1)
