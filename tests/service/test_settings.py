"""Settings: five sources in their order, and one readable line about what is wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import StartupError
from service.settings import Settings, load_settings, without_password

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and the one setting without a default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STAMP_BUNDLE_DIR", str(tmp_path))
    return tmp_path


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source shows where the stronger ones are silent."""
    lines = ["STAMP_PORT=1", "STAMP_HOST=file", "STAMP_DEVICE=file", "OTHER=x"]
    (folder / ".env").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("STAMP_PORT", "2")
    monkeypatch.setenv("STAMP_HOST", "variable")

    settings = load_settings(port="3", host=None)

    assert settings.port == 3
    assert settings.host == "variable"
    assert settings.device == "file"
    assert settings.dtype == "float32"


@pytest.mark.parametrize("named_by", ["flag", "variable", ".env"])
def test_a_toml_file_is_beaten_by_all_but_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    """Whichever of the stronger sources names it."""
    file = folder / "service.toml"
    file.write_text("port = 9\nmax_queue_rows = 8\ndrain_delay_s = 2\n", encoding="utf-8")
    lines = {".env": ["STAMP_PORT=1", f"STAMP_CONFIG_FILE={file}"]}.get(named_by, ["STAMP_PORT=1"])
    (folder / ".env").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("STAMP_CONFIG_FILE", str(file) if named_by == "variable" else "")

    settings = load_settings(config_file=str(file) if named_by == "flag" else None)

    assert settings.port == 1
    assert settings.max_queue_rows == 8
    assert settings.drain_delay_s == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("prot = 1", r"^STAMP_PROT is not a setting"),
        ("port = 'x'", r"^STAMP_PORT=x: "),
        ("port =", r"^STAMP_CONFIG_FILE: Invalid value"),
    ],
)
def test_what_is_wrong_in_a_toml_file_refuses_to_start(folder: Path, text: str, line: str) -> None:
    """In one line, like everything else."""
    file = folder / "service.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(StartupError, match=line):
        load_settings(config_file=str(file))


def test_a_toml_file_that_is_missing_refuses_to_start() -> None:
    """Defaults in its place would be a surprise."""
    with pytest.raises(StartupError, match=r"STAMP_CONFIG_FILE=none.toml: Path does not point"):
        load_settings(config_file="none.toml")


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files leave them."""
    monkeypatch.setenv("STAMP_DEFAULT_BEAM_WIDTH", "")

    assert load_settings().default_beam_width is None


def test_an_unknown_variable_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typo is not silently ignored: the line names it."""
    monkeypatch.setenv("STAMP_BUNDEL_DIR", "x")

    with pytest.raises(StartupError, match=r"^STAMP_BUNDEL_DIR is not a setting"):
        load_settings()


def test_an_unknown_variable_in_the_file_refuses_to_start(folder: Path) -> None:
    """The same goes for .env."""
    (folder / ".env").write_text("STAMP_PROT=1\n", encoding="utf-8")

    with pytest.raises(StartupError, match=r"^STAMP_PROT is not a setting"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "http"),
        ("DTYPE", "float64"),
        ("MAX_BEAM_WIDTH", "99"),
        ("BUNDLE_DIR", "no/such/folder"),
        ("DRAIN_DELAY_S", "-1"),
        ("TORCH_COMPILE", "true"),
        ("TORCH_COMPILE", "1,0"),
        ("TORCH_COMPILE", "8,"),
    ],
)
def test_a_wrong_value_refuses_to_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """One line with the variable, its value and what is wrong."""
    monkeypatch.setenv(f"STAMP_{name}", value)

    with pytest.raises(StartupError) as error:
        load_settings()

    assert str(error.value).startswith(f"STAMP_{name}={value}: ")
    assert "\n" not in str(error.value)


def test_batch_sizes_are_put_in_order() -> None:
    """Each once; none when nothing is to be compiled."""
    assert load_settings(torch_compile="8, 1,8").compiled_batch_sizes == (1, 8)
    assert load_settings(torch_compile="8, 1,8").torch_compile == "1,8"
    assert load_settings().compiled_batch_sizes == ()


def test_int8_is_not_compiled() -> None:
    """Said at the start, not when the model is loaded."""
    with pytest.raises(StartupError, match="int8 cannot be compiled"):
        load_settings(torch_compile="1", dtype="int8")


def test_a_missing_bundle_folder_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the variable and the flag."""
    monkeypatch.delenv("STAMP_BUNDLE_DIR")

    with pytest.raises(StartupError, match=r"STAMP_BUNDLE_DIR \(--bundle-dir\) must be given"):
        load_settings()


def test_settings_do_not_change() -> None:
    """Frozen: what was read at the start is what runs."""
    settings = load_settings()

    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://ann:secret@db:6379/0?x=1", "redis://ann:***@db:6379/0?x=1"),
        ("redis://:secret@db", "redis://:***@db"),
        ("sqlite:///a/b", "sqlite:///a/b"),
        ("memory://", "memory://"),
    ],
)
def test_passwords_are_not_shown(folder: Path, url: str, shown: str) -> None:
    """In messages and in what `config` prints."""
    settings = Settings(_env_file=None, bundle_dir=folder, history_url=url)

    assert without_password(url) == shown
    assert settings.redacted()["history_url"] == shown


def test_the_stores_url_may_come_from_a_file(folder: Path) -> None:
    """It beats the URL, and `config` shows its name only."""
    (folder / "url").write_text("redis://:secret@db/0\n", encoding="utf-8")

    settings = load_settings(history_url="memory://", history_url_file=str(folder / "url"))

    assert settings.store_url == "redis://:secret@db/0"
    assert "secret" not in str(settings.redacted())
    assert load_settings(history_url="memory://").store_url == "memory://"


@pytest.mark.parametrize(("content", "line"), [(None, "cannot read"), (b"\n", "holds no URL")])
def test_a_file_without_a_url_refuses_to_start(
    folder: Path, content: bytes | None, line: str
) -> None:
    """Missing or empty; the default store would be a surprise."""
    if content is not None:
        (folder / "url").write_bytes(content)

    with pytest.raises(StartupError, match=rf"url: {line}"):
        _ = load_settings(history_url_file=str(folder / "url")).store_url


def test_the_table_of_settings_is_current() -> None:
    """docs/operations.md lists each setting with its default and description, in order."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        default = "(required)" if field.is_required() else default
        rows.append(f"| `STAMP_{name.upper()}` | {default} | {field.description} |")

    assert "\n".join(rows) in OPERATIONS.read_text(encoding="utf-8")
