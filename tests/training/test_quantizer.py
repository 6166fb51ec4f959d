"""Residual k-means: deterministic, placeable, honest about small catalogs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.placement import Placement, place
from training.data_config import QuantizerConfig
from training.embeddings import Vectors
from training.quantizer import Quantized, add_suffix, quantize
from training.sid_report import sid_report


def cloud(num_items: int, dim: int = 8, seed: int = 0) -> Vectors:
    """Random item vectors."""
    return np.random.default_rng(seed).normal(size=(num_items, dim)).astype(np.float32)


def coded(codes: list[list[int]]) -> Quantized:
    """Given codes without codebooks."""
    table = np.array(codes, dtype=np.int32)
    return Quantized(table, tuple((table.max(axis=0) + 1).tolist()), [])


@pytest.mark.parametrize("normalize", [True, False])
def test_the_same_seed_gives_the_same_codes(normalize: bool) -> None:
    """Bit for bit, codebooks included; another seed gives others."""
    config = QuantizerConfig(codebook_sizes=(16, 8), normalize_residuals=normalize)

    first, second = (quantize(cloud(300), config) for _ in range(2))
    other = quantize(cloud(300), config.model_copy(update={"seed": 1}))

    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_array_equal(np.concatenate(first.codebooks), np.concatenate(second.codebooks))
    assert (first.codes != other.codes).any()


@pytest.mark.parametrize("normalize", [True, False])
def test_a_fitted_item_is_placed_with_its_own_codes(normalize: bool) -> None:
    """One at a time, as a service adds them, or all at once."""
    vectors = cloud(120)
    config = QuantizerConfig(codebook_sizes=(16, 8, 4), normalize_residuals=normalize)
    found = quantize(vectors, config)

    codebooks = tuple(torch.from_numpy(codebook) for codebook in found.codebooks)
    placement = Placement(codebooks, normalize_residuals=normalize)
    single = [place(row[None], placement)[0] for row in vectors]

    np.testing.assert_array_equal(place(vectors, placement), found.codes)
    np.testing.assert_array_equal(single, found.codes)


@pytest.mark.parametrize("normalize", [True, False])
def test_each_level_is_the_nearest_centroid_of_what_is_left(normalize: bool) -> None:
    """Against plain numpy."""
    vectors = cloud(90)
    found = quantize(vectors, QuantizerConfig(codebook_sizes=(9, 5), normalize_residuals=normalize))

    left = vectors.astype(np.float64)
    for level, codebook in enumerate(found.codebooks):
        if normalize:
            left = left / np.linalg.norm(left, axis=1, keepdims=True)
        distances = np.linalg.norm(left[:, None] - codebook[None], axis=2)
        np.testing.assert_array_equal(distances.argmin(axis=1), found.codes[:, level])
        chosen = codebook[found.codes[:, level]]
        left = left - (chosen * (left * chosen).sum(axis=1, keepdims=True) if normalize else chosen)


def test_groups_far_apart_share_no_code() -> None:
    """Four tight groups and sixteen codes: none spans two groups."""
    groups = np.repeat(np.eye(4, 8, dtype=np.float32), 10, axis=0) + 0.01 * cloud(40)

    codes = quantize(groups, QuantizerConfig(codebook_sizes=(16,))).codes[:, 0].reshape(4, 10)

    assert sum(len(np.unique(group)) for group in codes) == len(np.unique(codes))


def test_near_orthogonal_items_do_not_gather_in_one_code() -> None:
    """Plain k-means on unit vectors in many dimensions puts most of them near the origin."""
    found = quantize(cloud(800, dim=256), QuantizerConfig(codebook_sizes=(128, 128)))

    assert max(sid_report(found).largest_code_share) < 0.05


@pytest.mark.parametrize("normalize", [True, False])
def test_no_code_holds_more_than_its_load(normalize: bool) -> None:
    """300 items whose nearest codes hold many: at most 1.2 times the mean, rounded up."""
    config = QuantizerConfig(codebook_sizes=(16, 7), normalize_residuals=normalize)
    evenly = config.model_copy(update={"max_code_load": 1.2})

    nearest, found = (quantize(cloud(300) ** 3, each).codes for each in (config, evenly))

    assert np.bincount(nearest[:, 0]).max() > 23
    assert np.bincount(found[:, 0]).max() <= 23
    assert np.bincount(found[:, 1]).max() <= 52


@pytest.mark.parametrize("normalize", [True, False])
def test_a_load_that_nothing_reaches_changes_nothing(normalize: bool) -> None:
    """The nearest codes, level by level."""
    config = QuantizerConfig(codebook_sizes=(16, 7), normalize_residuals=normalize)
    loosely = config.model_copy(update={"max_code_load": 16.0})

    first, second = (quantize(cloud(300), each).codes for each in (config, loosely))

    np.testing.assert_array_equal(first, second)


def test_threads_are_as_before_afterwards() -> None:
    """Whatever the fit was allowed."""
    before = torch.get_num_threads()

    quantize(cloud(20), QuantizerConfig(codebook_sizes=(2,)), num_threads=before + 1)

    assert torch.get_num_threads() == before


def test_a_codebook_is_no_larger_than_what_it_must_tell_apart() -> None:
    """Five items need five codes, and one code where nothing is left; a note says so."""
    found = quantize(cloud(5), QuantizerConfig(codebook_sizes=(256, 256)))

    assert found.codebook_sizes == (5, 1)
    assert sorted(found.codes[:, 0]) == [0, 1, 2, 3, 4]
    assert not found.codes[:, 1].any()
    assert "level 0: 256 codes asked for, but only 5 items" in found.notes[0]
    assert sid_report(found).notes == list(found.notes)


def test_items_without_any_vector_share_a_code() -> None:
    """All zeros, e.g. collaborative vectors of items never seen, are one bucket."""
    vectors = np.concatenate((cloud(20), np.zeros((3, 8), dtype=np.float32)))

    codes = quantize(vectors, QuantizerConfig(codebook_sizes=(4, 4))).codes

    assert (codes[20:] == codes[20]).all()


@settings(deadline=None, max_examples=40)
@given(codes=st.lists(st.tuples(*[st.integers(0, 2)] * 2), min_size=1, max_size=30))
def test_a_suffix_makes_every_item_unique(codes: list[tuple[int, int]]) -> None:
    """Numbered from 0 inside each bucket; the largest bucket sets the size of its level alone."""
    before = coded([list(code) for code in codes])

    after = add_suffix(before)

    largest = max(codes.count(code) for code in codes)
    assert len(np.unique(after.codes, axis=0)) == len(codes)
    assert after.codebook_sizes == (*before.codebook_sizes, largest)
    np.testing.assert_array_equal(after.codes[:, :2], before.codes)
    assert after.codes[:, 2].tolist() == [codes[:n].count(code) for n, code in enumerate(codes)]


def test_the_popular_item_of_a_bucket_comes_first() -> None:
    """Suffix 0 is the one most often seen; equals stand in catalog order."""
    suffix = add_suffix(coded([[0], [1], [0], [0]]), np.array([2, 0, 9, 2])).codes[:, 1]

    assert suffix.tolist() == [1, 0, 0, 2]


def test_a_recipe_asks_for_suffixes() -> None:
    """One level more than codebooks."""
    found = quantize(cloud(50), QuantizerConfig(codebook_sizes=(3, 3), collisions="suffix"))

    assert len(found.codebook_sizes) == found.codes.shape[1] == 3
    assert len(found.codebooks) == 2
    assert sid_report(found).unique_share == 1
