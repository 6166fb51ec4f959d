"""The prompt cache's benchmark, on a tiny model: what it compares, reports and records."""

import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from benchmarks.prompt_cache import Cell, Effort, measure, report, show, write_record
from tests.factories import tiny_config
from training.environment import environment

TINY_EFFORT = Effort(lengths=(20, 30), beam_widths=(10,), budget_s=0, min_rounds=1)
CONFIG = tiny_config(codebook_sizes=(16, 16, 16))

Found = tuple[list[Cell], dict[str, int]]


@pytest.fixture(scope="module")
def found() -> Found:
    """Measured as little as possible."""
    return measure(CONFIG, TINY_EFFORT)


@pytest.fixture
def result(found: Found) -> dict[str, JsonValue]:
    """As it is printed."""
    return report(CONFIG, *found)


def test_every_batch_is_compared_with_no_cache(found: Found) -> None:
    """Alone at every length and ratio, known or not; eight together known, half known, or not."""
    cells, _ = found

    assert [(cell.items, cell.ratio, cell.rows) for cell in cells] == [
        *((20, "1", 1), (20, "1/2", 1), (20, "1", 8), (20, "1/2", 8)),
        *((30, "1", 1), (30, "1/2", 1)),
    ]
    assert list(cells[0].ms) == ["off", "1 of 1 known", "0 of 1 known"]
    assert list(cells[2].ms) == ["off", "8 of 8 known", "4 of 8 known", "0 of 8 known"]


def test_fewer_tokens_need_less_room(found: Found) -> None:
    """By length and ratio."""
    _, sizes = found

    assert list(sizes) == ["20 items at 1", "20 items at 1/2", "30 items at 1", "30 items at 1/2"]
    assert sizes["20 items at 1/2"] < sizes["20 items at 1"] < sizes["30 items at 1"]


def test_the_headline_is_the_models_own_ratio() -> None:
    """A lone history of 20 items at ten beams; below the target is not reached."""
    ms = {"off": 14.0, "1 of 1 known": 10.0, "8 of 8 known": 7.0}
    cells = [Cell(20, ratio, rows, 10, ms) for ratio in ("1", "1/2") for rows in (1, 8)]

    found = report(CONFIG, cells, {})

    assert (found["speedup_b1"], found["reached"]) == (1.4, False)
    assert found["speedup_b8"] == {"off": 1.0, "1 of 1 known": 1.4, "8 of 8 known": 2.0}


def test_a_record_is_numbers_and_a_page(
    found: Found, result: dict[str, JsonValue], tmp_path: Path
) -> None:
    """One for programs, one for people, with the headline."""
    write_record(result, *found, environment("benchmarks.prompt_cache", []), tmp_path)

    files = {path.suffix: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert set(files) == {".json", ".md"}
    assert json.loads(files[".json"]) == json.loads(json.dumps(result))
    assert str(result["speedup_b1"]) in files[".md"]


def test_the_terminal_shows_times_and_sizes(
    found: Found, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two tables."""
    show(*found)

    printed = capsys.readouterr().out
    assert "4 of 8 known" in printed
    assert "20 items at 1/2" in printed
