"""Item vectors: blocks, weights, and no look into the held-out part."""

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from model.errors import ModelError
from tests.training.data_folders import histories_of
from training.data_config import EmbeddingConfig
from training.embeddings import (
    cooccurrence,
    embed_cooccurrence,
    embed_items,
    embed_text,
    load_vectors,
    positive_pmi,
)
from training.splits import leave_one_out

COLLABORATIVE = EmbeddingConfig(text="none", collaborative_weight=1.0, collaborative_dim=4)


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 5), max_size=7), min_size=1, max_size=4),
    window=st.integers(1, 8),
)
def test_cooccurrence_is_the_obvious_count(rows: list[list[int]], window: int) -> None:
    """Pairs of different items at most `window` apart in one history, both ways round."""
    expected = np.zeros((6, 6))
    for row in rows:
        for place, item in enumerate(row):
            for other in row[place + 1 : place + 1 + window]:
                expected[item, other] += item != other
                expected[other, item] += item != other

    np.testing.assert_array_equal(cooccurrence(histories_of(*rows), 6, window).toarray(), expected)


def test_information_is_log_of_observed_over_expected() -> None:
    """Only what is positive stays."""
    counts = cooccurrence(histories_of([0, 1, 2], [0, 1]), 3, 1)

    weights = positive_pmi(counts).toarray()

    assert weights[0, 1] == pytest.approx(np.log(2 * 6 / (2 * 3)))
    assert weights[1, 2] == pytest.approx(np.log(1 * 6 / (3 * 1)))
    assert weights[0, 2] == 0


def test_items_seen_together_are_near_and_unseen_ones_are_zero() -> None:
    """Two groups of items that never mix; item 6 has no interaction."""
    train = histories_of(*([0, 1, 2] * 2, [3, 4, 5] * 2) * 3)

    vectors = embed_cooccurrence(
        train, 7, COLLABORATIVE.model_copy(update={"collaborative_dim": 2})
    )

    near = vectors @ vectors.T
    assert near[0, 1] > 0.5
    assert abs(near[0, 4]) < 0.01
    np.testing.assert_allclose(np.linalg.norm(vectors[:6], axis=1), 1, rtol=1e-5)
    assert not vectors[6].any()
    assert vectors.dtype == np.float32


def test_collaborative_vectors_know_nothing_of_held_out_items() -> None:
    """Whatever validation and test items are, the vectors are the same."""
    trained = [[0, 1, 2, 3], [3, 2, 1, 0], [4, 1, 4, 2]]
    items = pl.DataFrame({"text": ["x"] * 6})
    train = [
        leave_one_out(histories_of(*(row + held_out for row in trained))).train
        for held_out in ([5, 0], [1, 4])
    ]

    vectors = [embed_items(items, part, COLLABORATIVE) for part in train]

    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not vectors[0][5].any()


@pytest.mark.parametrize("num_items", [1, 3])
def test_histories_without_pairs_give_zeros(num_items: int) -> None:
    """A tiny catalog is no reason to fail."""
    vectors = embed_cooccurrence(histories_of([0], [0, 0]), num_items, COLLABORATIVE)

    assert not vectors.any()
    assert len(vectors) == num_items


def test_blocks_stand_side_by_side_at_their_weights(tmp_path: Path) -> None:
    """Each at its own length."""
    np.save(tmp_path / "v.npy", np.array([[3.0, 4.0], [0.0, 2.0]], dtype=np.float16))
    config = EmbeddingConfig(
        text="vectors", vectors=tmp_path / "v.npy", text_weight=2, collaborative_weight=0.5
    )

    vectors = embed_items(pl.DataFrame({"text": ["a", "b"]}), histories_of([0, 1]), config)

    np.testing.assert_allclose(vectors[:, :2], np.array([[1.2, 1.6], [0, 2]]), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors[:, 2:], axis=1), 0.5, rtol=1e-6)
    assert vectors.dtype == np.float32


def test_wordllama_reads_its_bundled_weights() -> None:
    """Like texts are near; an empty text is a zero; logging stays as it was."""
    handlers = logging.getLogger().handlers[:]

    vectors = embed_text(["red nail polish", "blue nail polish", "tax law", ""])

    units = vectors[:3] / np.linalg.norm(vectors[:3], axis=1, keepdims=True)
    assert vectors.shape == (4, 256)
    assert units[0] @ units[1] > 0.5 > units[0] @ units[2]
    assert not vectors[3].any()
    assert logging.getLogger().handlers == handlers


def test_the_default_is_text_alone() -> None:
    """Unit rows of WordLlama."""
    items = pl.DataFrame({"text": ["red nail polish"]})

    vectors = embed_items(items, histories_of([0]), EmbeddingConfig())

    assert vectors.shape == (1, 256)
    assert np.linalg.norm(vectors) == pytest.approx(1)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\), but the catalog has 2 items; give one row per row"),
        (np.zeros(2), r"shape \(2,\), but"),
        (np.array([[1, 2], [1, np.nan]]), "row 1 holds a value that is not finite"),
        (np.array([["a"], ["b"]]), r"holds <U1 values; give numbers"),
        (np.array([[None], [None]]), "not a readable .npy file"),
    ],
)
def test_vectors_that_do_not_fit_are_named(
    tmp_path: Path, vectors: np.ndarray[tuple[int, ...], np.dtype[np.float64]], message: str
) -> None:
    """Shape, finiteness, and no pickles."""
    np.save(tmp_path / "v.npy", vectors)

    with pytest.raises(ModelError, match=message):
        load_vectors(tmp_path / "v.npy", 2)


def test_a_missing_vector_file_is_named(tmp_path: Path) -> None:
    """By its path."""
    with pytest.raises(ModelError, match=r"v\.npy: not a readable .npy file"):
        load_vectors(tmp_path / "v.npy", 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": "vectors"}, 'needs vectors = "path/to/file.npy"'),
        ({"vectors": "v.npy"}, "only read with"),
        ({"text": "none"}, "nothing else is left"),
    ],
)
def test_a_contradictory_recipe_is_refused(settings: dict[str, str], message: str) -> None:
    """Said when the recipe is read."""
    with pytest.raises(ValidationError, match=message):
        EmbeddingConfig.model_validate(settings)
