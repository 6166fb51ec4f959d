"""Baselines: each against a hand-made case, ranks and lists against a sort."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.data_folders import histories_of
from training.baselines import (
    ItemKnn,
    Popularity,
    Transitions,
    evaluate_baseline,
    fit_baseline,
    mean_ranks,
    top_items,
)
from training.data_config import DatasetConfig
from training.dataset import prepare, to_histories
from training.evaluation_config import EvaluationConfig, SasrecConfig
from training.metrics import ndcg_at_k, recall_at_k
from training.splits import leave_one_out

SCORES = st.lists(
    st.lists(st.sampled_from([-np.inf, 0.0, 0.5, 1.0, 2.0]), min_size=6, max_size=6),
    min_size=1,
    max_size=5,
)
TRAIN = histories_of([0, 1, 2], [0, 1], [3, 1], [0, 2])
ASK = leave_one_out(histories_of([0, 2, 1], [9, 9, 3, 2])).test


@settings(deadline=None)
@given(rows=SCORES, limit=st.integers(1, 6))
def test_the_best_items_are_those_of_a_sort(rows: list[list[float]], limit: int) -> None:
    """Ties by item index; -inf is nobody."""
    found = top_items(np.array(rows), limit)

    for scores, items in zip(rows, found.tolist(), strict=True):
        best = sorted(range(6), key=lambda item: (-scores[item], item))[:limit]
        assert items == [item if scores[item] > -np.inf else -1 for item in best]


@settings(deadline=None)
@given(rows=SCORES, target=st.integers(0, 5))
def test_a_rank_is_the_mean_over_ties(rows: list[list[float]], target: int) -> None:
    """The places the equals share, averaged."""
    found = mean_ranks(np.array(rows), np.full(len(rows), target, dtype=np.int32))

    for scores, rank in zip(rows, found.tolist(), strict=True):
        ordered = sorted(scores, reverse=True)
        shared = [place + 1 for place, score in enumerate(ordered) if score == scores[target]]
        expected = np.inf if scores[target] == -np.inf else np.mean(shared)
        assert rank == expected


def test_popularity_counts_training_interactions() -> None:
    """The same scores for everybody."""
    scores = Popularity.fit(TRAIN, 4).scores(ASK)

    np.testing.assert_array_equal(scores, [[3, 3, 2, 1]] * 2)


def test_transitions_follow_the_last_item() -> None:
    """Counts of steps; what is equal stands by popularity, and steps do not cross users."""
    examples = leave_one_out(histories_of([2, 0, 3], [3, 1, 0])).test

    recommended = top_items(Transitions.fit(TRAIN, 4).scores(examples), 4)

    assert recommended.tolist() == [[1, 2, 0, 3], [2, 0, 1, 3]]


def test_neighbours_are_compared_by_cosine_and_fade() -> None:
    """Users of both over the root of users of each; the older item counts less."""
    train = histories_of([0, 1, 1], [0, 1], [0, 2])
    examples = leave_one_out(histories_of([2, 1, 0])).test

    scores = ItemKnn.fit(train, 3, decay=0.5).scores(examples)

    both, rare = 2 / np.sqrt(3 * 2), 1 / np.sqrt(3 * 1)
    np.testing.assert_allclose(scores, [[both + 0.5 * rare, 0, 0]])


@pytest.mark.parametrize(
    ("exclude_seen", "recommended", "rank"),
    [(False, [0, 1, 2, 3], 1.5), (True, [1, 3, -1, -1], 1.0)],
)
def test_seen_items_are_excluded_on_request(
    exclude_seen: bool, recommended: list[int], rank: float
) -> None:
    """By default they stay, as in the published tables."""
    examples = leave_one_out(histories_of([0, 2, 1])).test

    found = evaluate_baseline(
        Popularity.fit(TRAIN, 4), examples, 4, limit=10, exclude_seen=exclude_seen
    )

    assert found.recommended.tolist() == [recommended]
    assert found.ranks.tolist() == [rank]


def test_a_repeated_target_is_lost_when_seen_items_are_excluded() -> None:
    """It cannot be recommended, so its rank is infinite."""
    examples = leave_one_out(histories_of([1, 2, 1])).test

    found = evaluate_baseline(Popularity.fit(TRAIN, 4), examples, 4, limit=2, exclude_seen=True)

    assert found.ranks.tolist() == [np.inf]


def test_no_examples_give_empty_results() -> None:
    """Users may all be too short."""
    examples = leave_one_out(histories_of([0, 1])).test

    found = evaluate_baseline(Popularity.fit(TRAIN, 4), examples, 4, limit=2)

    assert found.ranks.shape == (0,)
    assert found.recommended.shape == (0, 2)


@pytest.mark.skipif("STAMP_TEST_DATA" not in os.environ, reason="STAMP_TEST_DATA names no folder")
def test_the_published_numbers_of_ml100k_come_out() -> None:
    """Recall@10 and NDCG@10 of popularity and transitions to the last digit, item-kNN near."""
    folder = Path(os.environ["STAMP_TEST_DATA"]) / "ml100k"
    data = prepare(DatasetConfig(kind="folder", folder=folder))
    split = leave_one_out(to_histories(data.interactions, data.items["item_id"]))
    num_items = data.items.height

    found = {
        name: evaluate_baseline(
            fit_baseline(name, split, num_items, SasrecConfig()), split.test, num_items, limit=10
        ).ranks
        for name in EvaluationConfig().baselines
    }

    numbers = {
        name: (recall_at_k(ranks, 10).mean(), ndcg_at_k(ranks, 10).mean())
        for name, ranks in found.items()
    }
    assert numbers["popularity"] == pytest.approx((0.0286, 0.0122), abs=5e-5)
    assert numbers["transitions"] == pytest.approx((0.1103, 0.0611), abs=5e-5)
    assert numbers["item-knn"] == pytest.approx((0.0626, 0.0296), abs=1e-3)
