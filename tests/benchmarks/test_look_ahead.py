"""benchmarks.look_ahead on a small table."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import look_ahead
from model.beam_search import Beams
from model.errors import ModelError


def write_sids(folder: Path) -> Path:
    """Forty items, most of them alone below their first two codes."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 9, (40, 4))
    lines = ["item_id\tc1\tc2\tc3\tc4"]
    lines += ["\t".join([f"i{n}", *map(str, row)]) for n, row in enumerate(codes)]
    path = folder / "sids.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_batch_is_decoded_both_ways(tmp_path: Path) -> None:
    """One JSON object, with the share saved of each batch and a record of the same."""
    arguments = [
        str(write_sids(tmp_path)),
        "--json",
        "--seconds",
        "0.01",
        "--record",
        f"{tmp_path}",
    ]

    result = CliRunner().invoke(look_ahead.app, arguments)

    found = json.loads(result.stdout)
    sizes = [(cell["rows"], cell["beams"]) for cell in found["cells"]]
    assert sizes[: len(look_ahead.CELLS)] == list(look_ahead.CELLS)
    assert sizes[-3:] == list(look_ahead.LARGE_CELLS)
    assert all(cell["by_level_ms"] > 0 < cell["ahead_ms"] for cell in found["cells"])
    assert found["saved"]["torch_b1_k5"] == found["cells"][1]["saved"]
    assert {cell["engine"] for cell in found["cells"]} >= {"torch", "large"}
    assert json.loads(next(tmp_path.glob("*look-ahead.json")).read_text()) == found


def test_answers_that_differ_are_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is timed unless both ways agree."""

    def differ(_: Beams, __: Beams) -> bool:
        return False

    monkeypatch.setattr(look_ahead, "same", differ)
    table = look_ahead.read_sids(write_sids(tmp_path))
    model = look_ahead.engines(table)["torch"]

    with pytest.raises(ModelError, match="changed the answer"):
        look_ahead.measure(table, "torch", model, rows=1, beams=5, budget_s=0.01)
