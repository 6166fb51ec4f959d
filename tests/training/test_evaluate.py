"""Evaluation asks the served engine, and counts right."""

import re

import numpy as np
import pytest

from model.engine import Engine, Query
from tests.factories import random_engine
from tests.training.data_folders import histories_of
from training.evaluate import (
    beam_gaps,
    evaluate,
    recommend_lists,
    sap_profile,
    some,
    subset_metrics,
)
from training.evaluation_config import EvaluationConfig
from training.report import (
    measure,
    measure_baselines,
    render_baselines,
    render_evaluation,
)
from training.splits import Examples, Split, leave_one_out


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An untrained engine that may use three ratios."""
    return random_engine()


@pytest.fixture(scope="module")
def split() -> Split:
    """Histories of 3 to 14 items over forty items."""
    random = np.random.default_rng(0)
    rows = [random.permutation(40)[: 3 + user % 12].tolist() for user in range(80)]
    return leave_one_out(histories_of(*rows))


def test_lists_are_what_the_engine_answers(engine: Engine, split: Split) -> None:
    """Row i belongs to example i, however the examples were batched; seen items are left out."""
    lists = recommend_lists(engine, split.test, beam_width=20)

    for example in (0, 17, 79):
        history = split.test.history(example).tolist()
        answer = engine.recommend([Query(history, limit=20, beam_width=20)])[0]
        found = [item.item_index for item in answer.items]
        assert lists[example, : len(found)].tolist() == found
        assert not set(lists[example].tolist()) & set(history)


def test_recall_counts_targets_in_the_first_k(engine: Engine, split: Split) -> None:
    """Against a loop over the lists."""
    lists = recommend_lists(engine, split.test, beam_width=20)

    quality = evaluate(engine, split.test, beam_width=20)

    targets = split.test.targets.tolist()
    for k in (5, 10, 20):
        hits = [target in row[:k].tolist() for target, row in zip(targets, lists, strict=True)]
        assert quality.metrics[f"recall@{k}"] == pytest.approx(np.mean(hits))
    shown = {item for row in lists[:, :10].tolist() for item in row}
    assert quality.metrics["coverage@10"] == pytest.approx(len(shown) / 40)


def test_an_untrained_model_finds_a_target_as_often_as_chance(engine: Engine, split: Split) -> None:
    """With seen items left in: a quarter of the catalog is shown, so about a quarter is found."""
    quality = evaluate(engine, split.test, beam_width=40, exclude_seen=False)

    assert 0.05 < quality.metrics["recall@10"] < 0.5


def test_a_beam_as_wide_as_the_catalog_has_no_gap(engine: Engine, split: Split) -> None:
    """And a narrow one has; all are measured on the same users."""
    found = beam_gaps(engine, split.test, (10, 1000))

    assert found.keys() == {"10", "1000", "exact"}
    assert found["1000"]["overlap@10"] == found["1000"]["identical@10"] == 1.0
    assert found["10"]["identical@10"] < 1.0
    exact = found["exact"]
    assert {name: found["1000"][name] for name in exact} == exact


def test_the_profile_names_every_ratio_and_its_cost(engine: Engine, split: Split) -> None:
    """Ratio 1 costs 1 by definition; the trained ratio is always there."""
    config = EvaluationConfig(retention_ratios=(0.25,))

    profile = sap_profile(engine, split.valid, config)

    assert [entry.retention_ratio for entry in profile] == [0.25, 0.5, 1.0]
    assert profile[-1].relative_cost == 1.0
    assert all(0 <= entry.recall_at_10 <= 1 for entry in profile)


def test_some_examples_are_spread_evenly(split: Split) -> None:
    """The same ones every time, first and last included; all of them if they are few."""
    few = some(split.test, 5)

    assert few.users.tolist() == [0, 19, 39, 59, 79]
    assert some(split.test, 80) is split.test


def test_subsets_are_counted_apart(engine: Engine) -> None:
    """Long histories, and targets of a later day than the item before."""
    day = 86_400
    rows = [[item % 40 for item in range(length)] for length in (4, 13, 23)]
    times = [day * (n // 2) for row in rows for n in range(len(row))]
    split = leave_one_out(histories_of(*rows, timestamps=times))
    quality = evaluate(engine, split.test, beam_width=20)

    found = subset_metrics(quality.ranks, split.test)

    assert {name: metrics["users"] for name, metrics in found.items()} == {
        "> 10 items": 2.0,
        "> 20 items": 1.0,
        "later day": 2.0,
    }
    whole = np.isfinite(quality.ranks[1:]).mean()
    assert found["> 10 items"]["recall@20"] == pytest.approx(whole)


def test_an_evaluation_is_shown_beside_baselines(engine: Engine, split: Split) -> None:
    """The table has the model and three baselines, with seen items left out and left in."""
    config = EvaluationConfig(retention_ratios=(0.25,), max_users=20, exact_users=5)
    baselines = measure_baselines(split, len(engine.catalog), config)

    found = measure(engine, split, config, baselines)

    table = render_evaluation(found)

    assert found.num_users == 20
    assert table.row_count == 8
    assert found.baselines.keys() == {"popularity", "transitions", "item-knn"}
    assert found.beams.keys() == {"10", "20", "50", "exact"}
    assert found.exact_users == 5
    everyone = {"this model", *found.baselines}
    assert found.subsets.keys() == found.subsets_unmasked.keys() == everyone
    assert "on 5 users: 10: " in str(table.caption)
    assert "recall@10, > 10 items (4 users): this model 0." in str(table.caption)


def test_only_the_baselines_of_the_recipe_are_measured(split: Split) -> None:
    """On as many users as the model, both ways, with the time it took to fit them."""
    config = EvaluationConfig(baselines=("transitions",), max_users=20)

    found = measure_baselines(split, 40, config)

    table = render_baselines(found)
    assert found.num_users == 20
    assert found.metrics.keys() == found.unmasked.keys() == {"transitions"}
    assert table.row_count == 2
    assert re.fullmatch(r"fitted in \d+\.\d s \(transitions\)", str(table.caption))


def test_examples_without_times_have_no_later_day(engine: Engine, split: Split) -> None:
    """Only what is known is reported."""
    examples: Examples = some(split.test, 10)

    found = subset_metrics(evaluate(engine, examples, beam_width=20).ranks, examples)

    assert "later day" not in found
