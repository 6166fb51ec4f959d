"""The pruning benchmark, on tiny models: what it compares, prints and records."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.pruning import Effort, measure
from benchmarks.pruning_report import show, write_record
from benchmarks.pruning_result import Cost, ModelResult, Result
from tests.factories import tiny_config, tiny_qwen
from training.environment import environment

TINY_EFFORT = Effort(
    lengths=(50,),
    padded_to=(30,),
    ratios=(1.0, 1 / 3),
    ranking_rows=(1,),
    budget_s=0,
    min_rounds=1,
)
LONG = {"max_history_items": 100}


@pytest.fixture(scope="module")
def result() -> Result:
    """Both backbones, measured as little as possible."""
    found = {
        "t5": measure(tiny_config(**LONG), TINY_EFFORT),
        "qwen24": measure(tiny_qwen(**LONG), replace(TINY_EFFORT, padded_to=())),
    }
    return Result(found, quick=True, environment=environment("benchmarks.pruning", ["--quick"]))


def test_the_headline_stands_at_the_top_of_each_model(result: Result) -> None:
    """One JSON object: t5 and qwen24, each with its three gains."""
    found = json.loads(json.dumps(result.to_json()))

    gains = {"train_speedup", "activation_saving", "encode_speedup"}
    assert gains < found["t5"].keys()
    assert gains < found["qwen24"].keys()


@pytest.mark.parametrize("name", ["t5", "qwen24"])
def test_fewer_tokens_need_less_memory_and_fewer_operations(result: Result, name: str) -> None:
    """A third of the tokens after the cut, against all of them, without padding."""
    full, third = result.models[name].unpadded

    assert (full.gain.activation_saving, full.gain.train_flop_ratio) == (0, 1)
    assert third.gain.activation_saving > 0.1
    assert third.gain.train_flop_ratio > 1.1


def test_leaving_out_padding_saves_more_than_pruning_it(result: Result) -> None:
    """The mix is padded, pruned as RASTP does, or not padded; then pruned as well."""
    gains = [cell.gain.encode_flop_ratio for cell in result.models["t5"].mixed]

    assert gains == sorted(gains)
    assert gains[0] == 1


def test_a_gain_is_over_the_baseline() -> None:
    """Half the time is twice as fast; three quarters of the memory saves a quarter."""
    gain = Cost(5, 1, 3, 1, 1).against(Cost(10, 4, 4, 2, 3))

    assert (gain.train_speedup, gain.encode_speedup, gain.activation_saving) == (2, 4, 0.25)
    assert (gain.train_flop_ratio, gain.encode_flop_ratio) == (2, 3)


def test_a_missed_target_is_reported_as_missed(result: Result) -> None:
    """Speed-ups must reach their targets, the cost of ranking must stay below its own."""
    as_slow = replace(result.models["t5"].unpadded[0], ratio=1 / 3)
    slow = ModelResult([as_slow], [], {1: 0.2}, {})

    verdicts = Result({"t5": slow}, quick=True, environment=result.environment).verdicts()

    assert [verdict.reached for verdict in verdicts] == [False] * 4


def test_a_record_is_three_files(result: Result, tmp_path: Path) -> None:
    """Numbers for programs, tables for people, and a picture that the tables' page shows."""
    write_record(result, tmp_path)

    files = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(files) == {".json", ".md", ".png"}
    assert json.loads(files[".json"].read_text("utf-8"))["quick"]
    text = files[".md"].read_text("utf-8")
    assert files[".png"].name in text
    assert result.environment["commit"] in text


def test_the_terminal_shows_every_target(
    result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables with the targets first."""
    show(result)

    printed = capsys.readouterr().out
    assert all(verdict.what in printed for verdict in result.verdicts())
