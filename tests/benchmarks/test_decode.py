"""The decoding benchmark, on tiny models: what it checks, compares, prints and records."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks.decode import Effort, compare, measure
from benchmarks.decode_peers import Cornac, PeerMissingError, Transformers, prefix_function
from benchmarks.decode_report import show, write_record
from benchmarks.decode_result import TARGETS, Result
from benchmarks.decode_workload import (
    Case,
    Ranking,
    RankingError,
    Speed,
    check_same,
    distinct_sids,
    new_case,
    ours,
    overlap,
)
from benchmarks.roofline import ProductWatcher, roofline
from model.config import T5Config

TINY = T5Config(codebook_sizes=(9, 8, 7), d_model=16, num_heads=2, d_kv=16, d_ff=32)
TINY_EFFORT = Effort(
    cells=[(1, 3), (2, 10)],
    long_cells=[(1, 3)],
    cornac_beams=(3,),
    roofline_cells=[(1, 3)],
    drift_rows=3,
    budget_s=0,
    min_rounds=1,
    left_out="nearly everything",
)
HAS_CORNAC = find_spec("cornac") is not None


def tiny_case(items: int = 4) -> Case:
    """A small model and 200 semantic IDs."""
    return new_case(200, items, TINY)


@pytest.fixture(scope="module")
def result() -> Result:
    """Everything, measured as little as possible."""
    return measure(tiny_case(), tiny_case(12), Speed("bfloat16", 0.5), TINY_EFFORT, ["--quick"])


def test_one_json_object_has_what_readers_of_records_look_for(result: Result) -> None:
    """The ranking's verdict, speed-ups by rows and beams, shares of products, and where."""
    found = json.loads(json.dumps(result.to_json()))

    assert found["ranking_equal"] is True
    assert found["vs_transformers"].keys() == {"b1_k3", "b2_k10", "all_on"}
    assert found["roofline"].keys() == {"b1_k3"}
    assert found["drift"].keys() == {"bfloat16", "ratio 0.50", "all_on"}
    assert {"vs_cornac", "environment", "quick", "peers", "skipped"} < found.keys()


def test_a_target_below_which_a_speedup_stays_is_not_reached(result: Result) -> None:
    """Only speed-ups that have targets are judged."""
    assert result.all_on is not None
    slow = replace(
        result.all_on.comparisons[0], theirs=result.all_on.comparisons[0].ours, rows=1, beams=10
    )

    judged = replace(result, vs_transformers=[slow], all_on=None).reached()

    assert judged == {"b1_k10": False}
    assert judged.keys() < TARGETS.keys()


@pytest.mark.parametrize(("rows", "beams"), [(1, 2), (1, 10), (3, 25)])
def test_transformers_finds_what_our_search_finds(rows: int, beams: int) -> None:
    """The same order and scores, although its softmax runs over all levels' tokens."""
    case = tiny_case()
    batch = case.batch(rows)

    found = ours(case, Speed()).ranking(batch, beams)
    expected = Transformers.of(case).ranking(batch, beams)

    assert found.sids.shape == (rows, beams, 3)
    assert check_same(found, expected) < 1e-5


@pytest.mark.skipif(not HAS_CORNAC, reason="cornac is not installed")
def test_cornac_finds_what_our_search_finds() -> None:
    """One history at a time."""
    case = tiny_case()
    batch = case.batch(1)

    found = ours(case, Speed()).ranking(batch, 10)

    assert check_same(found, Cornac.of(case).ranking(batch, 10)) < 1e-5


@pytest.mark.skipif(HAS_CORNAC, reason="cornac is installed")
def test_without_cornac_somebody_says_how_to_get_it(result: Result) -> None:
    """Its part is left empty, nothing else is."""
    with pytest.raises(PeerMissingError, match="pip install"):
        Cornac.of(tiny_case())

    assert result.vs_cornac is None
    assert "pip install" in result.skipped["cornac"]


def test_a_peer_with_another_trie_is_not_timed() -> None:
    """A wrong constraint finds something else, and the comparison ends there."""
    case = tiny_case()
    other = prefix_function(distinct_sids(TINY.codebook_sizes, 150))
    wrong = replace(Transformers.of(case), allowed=other)

    with pytest.raises(RankingError, match="other semantic IDs"):
        compare(case, wrong, [(1, 10)], Speed(), TINY_EFFORT)


def swapped(ranking: Ranking) -> Ranking:
    """The two best in the other order, scores as they were."""
    return Ranking(ranking.sids[:, [1, 0, 2]], ranking.scores)


def shifted(ranking: Ranking) -> Ranking:
    """All scores a little higher."""
    return Ranking(ranking.sids, ranking.scores + 0.01)


def undefined(ranking: Ranking) -> Ranking:
    """No score is a number."""
    return Ranking(ranking.sids, ranking.scores * torch.nan)


@pytest.mark.parametrize("change", [swapped, shifted, undefined])
def test_rankings_that_differ_are_not_the_same(change: Callable[[Ranking], Ranking]) -> None:
    """Order and scores count."""
    case = tiny_case()
    ranking = ours(case, Speed()).ranking(case.batch(1), 3)

    with pytest.raises(RankingError):
        check_same(change(ranking), ranking)


def test_overlap_counts_what_both_found_whatever_the_order() -> None:
    """Of two rows, one has the same two in another order, the other one of two."""
    found = Ranking(torch.tensor([[[0, 1], [2, 3]], [[4, 5], [6, 7]]]), torch.zeros(2, 2))
    expected = Ranking(torch.tensor([[[2, 3], [0, 1]], [[4, 5], [7, 6]]]), torch.zeros(2, 2))

    assert overlap(found, expected, 10) == 0.75
    assert overlap(found, expected, 1) == 0.5


def test_products_are_part_of_a_search(result: Result) -> None:
    """Their time is some share of it, more than nothing and, but for noise, not above all."""
    found = result.roofline["b1_k3"]

    assert 0 < found.share < 1.2
    assert 0 < found.attention_ms < found.products_ms
    assert found.product_gflops >= found.search_gflops / 1.2


@torch.inference_mode()
def test_a_product_is_counted_with_its_operations() -> None:
    """Two per multiply-add, whichever operation it is."""
    x, y = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    query, key = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 7, 4)

    with ProductWatcher() as watcher:
        torch.bmm(x, y)
        torch.bmm(x, y)
        torch.nn.functional.linear(x, torch.randn(5, 4))
        torch.nn.functional.scaled_dot_product_attention(query, key, key)

    flops = sorted(product.flops * times for product, times in watcher.seen.items())
    assert flops == [240, 480, 672]


def test_nothing_but_products_is_all_product() -> None:
    """One large product: the roofline is where the search is."""
    x = torch.randn(300, 300)

    found = roofline(lambda: x @ x, budget_s=0.2)

    assert found.num_products == 1
    assert 0.6 < found.share < 1.4


def test_a_record_is_two_files(result: Result, tmp_path: Path) -> None:
    """Numbers for programs, tables and conditions for people."""
    write_record(result, tmp_path)

    files = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(files) == {".json", ".md"}
    assert json.loads(files[".json"].read_text("utf-8"))["benchmark"] == "decode"
    text = files[".md"].read_text("utf-8")
    assert result.environment["commit"] in text
    assert "nearly everything" in text


def test_the_terminal_shows_every_part(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    """Targets first, then each peer, drift and products."""
    show(result)

    printed = capsys.readouterr().out
    assert all(word in printed for word in ("Targets", "transformers", "of ten", "products"))
