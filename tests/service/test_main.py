"""The command line: verbs, one readable line and exit code 2 for what the operator can mend."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from service.__main__ import app
from service.history import open_store
from service.history.exporting import ROWS_PER_PART
from service.settings import Settings
from tests.service.conftest import write_bundle
from tests.service.history.servers import Server, call

OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"

cli = CliRunner()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without .env."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_histories(path: Path, histories: dict[str, list[str]]) -> None:
    """The file that training leaves for the service."""
    columns = {"user_id": list(histories), "item_ids": list(histories.values())}
    pl.DataFrame(columns).write_parquet(path)


def stored(folder: Path, *user_ids: str) -> list[list[str] | None]:
    """What the store holds."""

    async def read() -> list[list[str] | None]:
        store = open_store(f"sqlite:///{folder}/store", max_items=100)
        histories = await store.get_many(user_ids)
        await store.close()
        return histories

    return asyncio.run(read())


def refused(*arguments: str) -> str:
    """The one line that a refused command leaves on stderr, below a bar if it had begun."""
    result = cli.invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    *bar, line = result.stderr.splitlines()
    assert all(shown.startswith("histories ") for shown in bar)
    return line


def test_histories_are_imported_once_however_often(folder: Path) -> None:
    """Again, it changes nothing; more users are added; --replace overwrites."""
    write_histories(folder / "a.parquet", {"ann": ["a", "b"], "bob": ["c"]})
    write_histories(folder / "b.parquet", {"ann": ["new"], "cid": ["d"]})
    store = ["--store", f"sqlite:///{folder}/store"]

    first = cli.invoke(app, ["import-histories", "a.parquet", *store])
    again = cli.invoke(app, ["import-histories", "a.parquet", *store])
    kept = cli.invoke(app, ["import-histories", "b.parquet", *store])
    before = stored(folder, "ann", "bob", "cid")
    cli.invoke(app, ["import-histories", "b.parquet", "--replace", *store])

    assert first.exit_code == 0, first.stderr
    assert first.stdout.startswith("2 users written, 0 kept as they were, 2 in sqlite:///")
    assert again.stdout.startswith("0 users written, 2 kept as they were, 2 in sqlite:///")
    assert kept.stdout.startswith("1 users written, 1 kept as they were, 3 in sqlite:///")
    assert before == [["a", "b"], ["c"], ["d"]]
    assert stored(folder, "ann", "bob", "cid") == [["new"], ["c"], ["d"]]


def test_what_is_exported_is_what_was_imported(folder: Path) -> None:
    """From one store into a file and into another store, more than one part of it."""
    histories = {f"u{n}": [f"i{n % 9}", "all"] for n in range(ROWS_PER_PART + 1)} | {"empty": []}
    write_histories(folder / "a.parquet", histories)
    store = ["--store", f"sqlite:///{folder}/store"]
    cli.invoke(app, ["import-histories", "a.parquet", *store])

    result = cli.invoke(app, ["export-histories", "b.parquet", *store])

    assert (result.exit_code, result.stdout) == (0, f"{len(histories)} users in b.parquet\n")
    exported = pl.read_parquet(folder / "b.parquet").sort("user_id")
    assert exported.equals(pl.read_parquet(folder / "a.parquet").sort("user_id"))
    assert sorted(path.name for path in folder.glob("*.parquet")) == ["a.parquet", "b.parquet"]
    assert not list(folder.glob(".*"))


def test_an_empty_store_is_an_empty_file(folder: Path) -> None:
    """One that can be imported."""
    store = ["--store", f"sqlite:///{folder}/store"]

    cli.invoke(app, ["export-histories", "none.parquet", *store])
    result = cli.invoke(app, ["import-histories", "none.parquet", *store])

    assert result.stdout.startswith("0 users written")


def test_an_unreadable_history_is_left_out_of_an_export(folder: Path) -> None:
    """It is counted, and the others are there."""
    write_histories(folder / "a.parquet", {"ann": ["a"], "bob": ["b"]})
    store = ["--store", f"sqlite:///{folder}/store"]
    cli.invoke(app, ["import-histories", "a.parquet", *store])
    with closing(sqlite3.connect(folder / "store", isolation_level=None)) as connection:
        connection.execute("UPDATE histories SET packed = x'00' WHERE user_id = 'ann'")

    result = cli.invoke(app, ["export-histories", "b.parquet", *store])

    assert result.stdout == "1 users in b.parquet, 1 unreadable ones left out\n"
    assert pl.read_parquet(folder / "b.parquet").rows() == [("bob", ["b"])]


@pytest.mark.parametrize("file", ["no/such/folder/a.parquet", "."])
def test_a_file_that_cannot_be_written_is_refused(folder: Path, file: str) -> None:
    """One line with its name."""
    line = refused("export-histories", file, "--store", f"sqlite:///{folder}/store")

    assert line.startswith(f"error: {file}: cannot be written")


def test_a_password_is_not_printed(valkey: Server, folder: Path) -> None:
    """Neither by an import that works nor by one that does not."""
    write_histories(folder / "a.parquet", {"ann": ["a"]})
    with closing(valkey.client()) as client:
        call(client, "ACL", "SETUSER", "ann", "on", ">secret", "~*", "+@all")
    works, fails = (
        f"unix://ann@{valkey.folder}/socket?prefix=acl&password={word}" for word in ("secret", "no")
    )

    good = cli.invoke(app, ["import-histories", "a.parquet", "--store", works])
    bad = refused("import-histories", "a.parquet", "--store", fails)

    assert good.stdout.startswith("1 users written, 0 kept as they were, 1 in unix://ann@")
    assert "secret" not in good.output
    assert "password=no" not in bad


def test_the_store_may_be_named_in_a_file(folder: Path) -> None:
    """For imports and exports alike; the URL itself is on no command line."""
    write_histories(folder / "a.parquet", {"ann": ["a", "b"]})
    (folder / "url").write_text(f"sqlite:///{folder}/store\n", encoding="utf-8")

    cli.invoke(app, ["import-histories", "a.parquet", "--store-file", "url"])
    result = cli.invoke(app, ["export-histories", "b.parquet", "--store-file", "url"])

    assert result.stdout == "1 users in b.parquet\n"
    assert stored(folder, "ann") == [["a", "b"]]


@pytest.mark.parametrize("options", [[], ["--store", "sqlite:///store", "--store-file", "url"]])
def test_the_store_is_named_once(folder: Path, options: list[str]) -> None:
    """By its URL or by a file, not by both and not by neither."""
    write_histories(folder / "a.parquet", {"ann": ["a"]})

    assert "--store or by --store-file" in refused("import-histories", "a.parquet", *options)


def test_imported_histories_are_cut(folder: Path) -> None:
    """To the newest items, as many as asked."""
    write_histories(folder / "a.parquet", {"ann": ["a", "b", "c"]})

    options = ["--store", f"sqlite:///{folder}/store", "--max-history-items", "2"]
    cli.invoke(app, ["import-histories", "a.parquet", *options])

    assert stored(folder, "ann") == [["b", "c"]]


def test_an_import_into_memory_is_refused(folder: Path) -> None:
    """It would be gone at once."""
    write_histories(folder / "a.parquet", {"ann": ["a"]})

    assert "give another store" in refused("import-histories", "a.parquet", "--store", "memory://")


def test_a_missing_file_is_refused() -> None:
    """One line with its name."""
    line = refused("import-histories", "none.parquet", "--store", "sqlite:///store")

    assert line == "error: none.parquet: not a readable parquet file"


def test_config_prints_what_would_be_used(folder: Path) -> None:
    """As a file that can be read again, every setting in it, no password."""
    url = "redis://:secret@db"

    result = cli.invoke(app, ["config", "--bundle-dir", str(folder), "--history-url", url])

    lines = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert list(lines) == [f"STAMP_{name.upper()}" for name in Settings.model_fields]
    assert lines["STAMP_BUNDLE_DIR"] == str(folder)
    assert lines["STAMP_HISTORY_URL"] == "redis://:***@db"
    assert lines["STAMP_DEFAULT_BEAM_WIDTH"] == ""


def test_serve_has_an_option_for_every_setting() -> None:
    """--help is complete, with variables and defaults."""
    result = cli.invoke(app, ["serve", "--help"], env={"COLUMNS": "200"})

    assert result.exit_code == 0
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in result.stdout
        assert f"STAMP_{name.upper()}" in result.stdout


@pytest.mark.parametrize("verb", [["serve"], []], ids=["serve", "no verb"])
def test_a_folder_without_a_bundle_is_refused(folder: Path, verb: list[str]) -> None:
    """Before anything listens; `serve` is meant when no verb is given."""
    line = refused(*verb, "--bundle-dir", str(folder))

    assert line.startswith(f"error: {folder}: holds no bundle")


def test_a_damaged_manifest_is_refused(folder: Path) -> None:
    """One line with the file's name."""
    write_bundle(folder, "v1")
    (folder / "v1" / "manifest.json").write_text("{", encoding="utf-8")

    line = refused("serve", "--bundle-dir", str(folder))

    assert "manifest.json: not a version 1 manifest" in line


def test_nothing_at_all_is_refused() -> None:
    """The line says what is missing."""
    assert refused() == "error: STAMP_BUNDLE_DIR (--bundle-dir) must be given"


def test_the_committed_openapi_document_is_current() -> None:
    """After a change: python -m service openapi > docs/openapi.json."""
    result = cli.invoke(app, ["openapi"])

    assert json.loads(result.stdout) == json.loads(OPENAPI.read_text(encoding="utf-8"))


def test_every_failure_in_the_document_is_a_problem() -> None:
    """Clients that are generated from it know what to expect."""
    document = json.loads(OPENAPI.read_text(encoding="utf-8"))
    failures = [
        response["content"]
        for path in document["paths"].values()
        for operation in path.values()
        for status, response in operation["responses"].items()
        if not status.startswith("2")
    ]

    assert failures
    assert {tuple(content) for content in failures} == {("application/problem+json",)}
