"""The benchmark of the index, on tiny catalogs: who is compared, and what is printed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.trie import Effort, agreed, build, contenders, measure, replay, search
from benchmarks.trie_ours import find, trie_of
from benchmarks.trie_peers import DictTrie, StaticIndex, unconstrained
from benchmarks.trie_report import show, write_record
from benchmarks.trie_result import BY_LEVEL, MEMORY, OURS, STATIC, Result, Setting

SMALL = Setting(num_items=60, vocabulary=16, levels=3, batch=2, beam_width=5)
TINY_EFFORT = Effort(
    (SMALL, replace(SMALL, num_items=80)),
    most_in_dicts=60,
    search_s=0,
    builds=(50, 70),
    build_s=0,
    most_in_static=50,
)


@pytest.fixture(scope="module")
def result() -> Result:
    """Everything, measured as little as possible."""
    return measure(TINY_EFFORT, quick=True)


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(*[st.integers(0, 5)] * 4), min_size=1, max_size=40),
    seed=st.integers(0, 2**16),
)
@torch.inference_mode()
def test_every_index_leads_to_the_same_semantic_ids(rows: list[tuple[int, ...]], seed: int) -> None:
    """Ours, STATIC's and dictionaries, for catalogs of any shape that fill the beam."""
    codes = np.array(rows, dtype=np.int32)
    width = min(3, len(np.unique(codes[:, 0])))
    model = replay(Setting(len(codes), 6, 4, batch=2, beam_width=width), seed)

    ours = find(trie_of(codes, (6,) * 4), model)

    for peer in (StaticIndex.from_codes(codes, 6), DictTrie(codes)):
        found = peer.search(model.scores, width)
        assert found.sids.tolist() == ours.sids.tolist()
        torch.testing.assert_close(found.scores, ours.scores)


@torch.inference_mode()
def test_without_a_catalog_the_best_of_all_sequences_are_found() -> None:
    """As with a catalog that holds every sequence of codes."""
    everything = np.indices((4, 4, 4)).reshape(3, -1).T.astype(np.int32)
    model = replay(Setting(64, 4, 3, batch=2, beam_width=4), seed=0)

    found = unconstrained(model.scores, 4)

    expected = find(trie_of(everything, (4, 4, 4)), model)
    assert found.sids.tolist() == expected.sids.tolist()


def test_contenders_that_disagree_are_not_timed() -> None:
    """A peer with another catalog finds something else, whatever the scores."""
    found, _ = contenders(SMALL, TINY_EFFORT)
    other = StaticIndex.from_codes(np.full((1, 3), 7, dtype=np.int32), SMALL.vocabulary)
    found["other"] = lambda model: other.search(model.scores, SMALL.beam_width)

    with pytest.raises(AssertionError, match="other do not find the same"):
        agreed(found, SMALL)


def test_a_search_names_who_did_not_run_and_why() -> None:
    """Every contender has a time or a reason."""
    cell = search(SMALL, TINY_EFFORT)

    assert {OURS, BY_LEVEL, STATIC, "dict"} <= cell.ms.keys()
    assert {"RecTokens"} == (cell.ms.keys() | cell.skipped.keys()) & {"RecTokens"}
    assert cell.ms[BY_LEVEL] > cell.ms[MEMORY]


def test_a_catalog_too_large_for_static_is_built_by_ours_alone() -> None:
    """There is a time and a size, and nothing to compare with."""
    cell = build(70, TINY_EFFORT, vocabulary=16, levels=3)

    assert list(cell.seconds) == list(cell.mib) == [OURS]
    assert cell.speedup is None


def test_the_headline_stands_at_the_top(result: Result) -> None:
    """One JSON object: the two numbers that have targets, of the largest catalogs."""
    found = json.loads(json.dumps(result.to_json()))

    assert found["mask_time_vs_static_1m"] == result.searches[1].ratio_by_level
    assert found["build_speedup_vs_static_1m"] == result.builds[0].speedup
    assert found["search"][1]["ours_vs_static"] == result.searches[1].ratio


def test_a_missed_target_is_reported_as_missed(result: Result) -> None:
    """Time has to stay below its target, the speed-up to reach its own."""
    slow = replace(
        result.searches[0], ms=result.searches[0].ms | {BY_LEVEL: 10, MEMORY: 1, STATIC: 10}
    )
    even = replace(result.builds[0], seconds={OURS: 1, STATIC: 5})

    verdicts = replace(result, searches=[slow], builds=[even]).verdicts()

    assert [verdict.reached for verdict in verdicts] == [False, True]


def test_a_record_is_two_files(result: Result, tmp_path: Path) -> None:
    """Numbers for programs, tables for people."""
    write_record(result, tmp_path)

    files = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(files) == {".json", ".md"}
    assert json.loads(files[".json"].read_text("utf-8"))["quick"]
    assert result.environment["commit"] in files[".md"].read_text("utf-8")


def test_the_terminal_shows_every_target(
    result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables with the targets first."""
    show(result)

    printed = capsys.readouterr().out
    assert all(verdict.what in printed for verdict in result.verdicts())
