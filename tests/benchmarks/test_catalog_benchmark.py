"""The catalog benchmark, on tiny models: what it measures, checks, prints and records."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.catalog import Effort, measure
from benchmarks.catalog_items import random_catalog, random_codes
from benchmarks.catalog_report import show, write_record
from benchmarks.catalog_result import Result
from tests.factories import tiny_config
from training.environment import environment

CONFIG = tiny_config(codebook_sizes=(16, 16, 16), pruning=None)
TINY_EFFORT = Effort(
    sizes=(1_500, 3_000),
    filtered=(1_500, 3_000),
    users=8,
    timed=1,
    budget_s=0,
    min_rounds=1,
    repeats=1,
)


@pytest.fixture(scope="module")
def result() -> Result:
    """Two small catalogs, measured as little as possible."""
    found_in = environment("benchmarks.catalog", ["--quick"])
    return measure(CONFIG, TINY_EFFORT, found_in, quick=True)


def test_the_headline_stands_at_the_top(result: Result) -> None:
    """One JSON object; it says which size the headline is of."""
    found = json.loads(json.dumps(result.to_json()))

    headline = {"latency_ratio_10m_vs_12k", "build_s_10m", "load_s_10m", "bytes_per_item_10m"}
    assert headline | {"growth", "filters", "environment", "quick"} < found.keys()
    assert found["largest_items"] == 3_000
    assert all(found[name] > 0 for name in headline)


def test_every_size_is_measured_in_full(result: Result) -> None:
    """Index, requests and changes of every catalog take some time and some memory."""
    assert [each.items for each in result.growth] == [1_500, 3_000]
    for each in result.growth:
        assert min(each.request_ms, each.build_s, each.load_s, each.bytes_per_item) > 0
        assert min(each.add_one_ms, each.add_hundred_ms, each.removal_ms) > 0


def test_answers_inside_the_beam_are_full_and_legal(result: Result) -> None:
    """Whatever the rule: all that were asked for, or all that exist."""
    rules = result.filters.in_beam

    assert {each.items for each in rules} == {1_500, 3_000}
    assert all(each.full and each.legal for each in rules)
    assert {each.returned for each in rules if each.share > 0.05} == {20}


def test_filtering_afterwards_leaves_fewer(result: Result) -> None:
    """A wider beam leaves more, and fewer than there are where few match."""
    narrow, _, wide = result.filters.afterwards[:3]

    assert (narrow.beam_width, wide.beam_width) == (50, 500)
    assert narrow.returned["bucket < 10"] <= wide.returned["bucket < 10"]
    assert narrow.returned["bucket < 10"] < result.filters.in_beam[2].returned


def test_a_missed_target_is_reported_as_missed(result: Result) -> None:
    """One answer that is not full is enough."""
    short = replace(result.filters.in_beam[0], full=False)
    filters = replace(result.filters, in_beam=[short, *result.filters.in_beam[1:]])

    verdict = replace(result, filters=filters).verdicts()[-1]

    assert not verdict.reached
    assert verdict.found < 1


def test_a_smaller_catalog_is_the_beginning_of_a_larger_one() -> None:
    """Codes and ids: the same histories mean the same in both."""
    small, large = random_codes(10, CONFIG), random_codes(1000, CONFIG)

    assert small.tolist() == large[:10].tolist()
    assert large.max() == 15
    assert random_catalog(10).item_ids == random_catalog(1000).item_ids[:10]


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
