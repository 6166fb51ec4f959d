"""Placing items: nearest codes, whoever is placed beside them, and what a file says about it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.errors import ModelError
from model.placement import Layer, Placement, Vectors, place, text_vectors


def random_vectors(num_items: int, dim: int = 6) -> Vectors:
    """The same on every call."""
    return np.random.default_rng(0).normal(size=(num_items, dim)).astype(np.float32)


def random_codebooks(width: int = 6, num_levels: int = 3) -> tuple[Tensor, ...]:
    """Unit rows, as k-means by cosine leaves them."""
    generator = torch.Generator().manual_seed(0)
    tables = torch.randn(num_levels, 5, width, generator=generator)
    return tuple(table / table.norm(dim=1, keepdim=True) for table in tables)


def random_encoder() -> nn.Sequential:
    """From six numbers to two."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


def layers_of(encoder: nn.Sequential) -> tuple[Layer, ...]:
    """The linear layers' tensors."""
    linear = [module for module in encoder if isinstance(module, nn.Linear)]
    return tuple(Layer(module.weight.detach(), module.bias.detach()) for module in linear)


@pytest.mark.parametrize("normalize", [True, False])
def test_each_level_is_the_nearest_code_of_what_is_left(normalize: bool) -> None:
    """Against plain numpy, more items than one batch holds."""
    left = vectors = random_vectors(5000)
    placement = Placement(random_codebooks(), normalize_residuals=normalize)

    codes = place(vectors, placement)

    for level, table in enumerate(placement.codebooks):
        codebook = table.numpy()
        if normalize:
            left = left / np.linalg.norm(left, axis=1, keepdims=True)
        distances = np.linalg.norm(left[:, None] - codebook[None], axis=2)
        np.testing.assert_array_equal(distances.argmin(axis=1), codes[:, level])
        chosen = codebook[codes[:, level]]
        left = left - (chosen * (left * chosen).sum(axis=1, keepdims=True) if normalize else chosen)


@pytest.mark.parametrize("normalize", [True, False])
def test_an_item_is_placed_the_same_alone_and_among_others(normalize: bool) -> None:
    """The number of items decides nothing."""
    vectors = random_vectors(300)
    placement = Placement(random_codebooks(), normalize_residuals=normalize)

    single = [place(row[None], placement)[0] for row in vectors]

    np.testing.assert_array_equal(single, place(vectors, placement))


def test_an_encoder_comes_first() -> None:
    """What it makes of a vector is what the codebooks code."""
    vectors, encoder = random_vectors(50), random_encoder()
    codebooks = random_codebooks(width=2)

    found = place(vectors, Placement(codebooks, layers_of(encoder), normalize_residuals=False))

    latents = encoder(torch.from_numpy(vectors)).detach().numpy()
    expected = place(latents, Placement(codebooks, normalize_residuals=False))
    np.testing.assert_array_equal(found, expected)


def test_nothing_left_is_the_first_code() -> None:
    """A vector of zeros, or one that its centroid describes, has no direction any more."""
    codebooks = random_codebooks()
    vectors = np.stack((np.zeros(6, dtype=np.float32), codebooks[0][3].numpy()))

    assert place(vectors, Placement(codebooks)).tolist() == [[0, 0, 0], [3, 0, 0]]


def test_tensors_bring_back_a_placement() -> None:
    """More levels than one digit counts, an encoder, and both scalars."""
    encoder = layers_of(random_encoder())
    placement = Placement(
        random_codebooks(2, 12), encoder, normalize_residuals=False, text_weight=0.7
    )

    again = Placement.from_tensors(placement.to_tensors())

    torch.testing.assert_close(again.codebooks, placement.codebooks, rtol=0, atol=0)
    torch.testing.assert_close(again.encoder, encoder, rtol=0, atol=0)
    assert (again.normalize_residuals, again.text_weight) == (False, 0.7)


def test_codebooks_alone_are_those_of_k_means_by_cosine() -> None:
    """What a file said before it said more."""
    again = Placement.from_tensors({"codebook_0": torch.ones(2, 3)})

    assert (again.encoder, again.normalize_residuals, again.text_weight) == ((), True, 1.0)


@pytest.mark.parametrize("encoder", [(), layers_of(random_encoder())])
def test_vectors_of_another_width_are_refused(encoder: tuple[Layer, ...]) -> None:
    """They come from another text encoder, or a block is missing."""
    placement = Placement(random_codebooks(2 if encoder else 6), encoder)

    with pytest.raises(ModelError, match=r"shape \(4, 5\) .* have 6 numbers each"):
        place(random_vectors(4, dim=5), placement)


def test_nothing_is_placed_without_codebooks() -> None:
    """Published semantic IDs have none."""
    with pytest.raises(ModelError, match="have no codebooks"):
        place(random_vectors(1), Placement(()))


def test_a_text_stands_where_the_catalogs_texts_do() -> None:
    """At their length, and zeros where the catalog has co-occurrence; no text is all zeros."""
    embedded = np.array([[3, 4], [0, 0]], dtype=np.float32)

    found = text_vectors(embedded, Placement(random_codebooks(), text_weight=0.5))

    expected = np.array([[0.3, 0.4, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=np.float32)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("width", "weight"), [(7, 1.0), (3, 0.0)])
def test_a_text_without_a_place_is_refused(width: int, weight: float) -> None:
    """Wider than the catalog's vectors, or the catalog's have no text block."""
    with pytest.raises(ModelError, match="use its own text encoder"):
        text_vectors(random_vectors(2, width), Placement(random_codebooks(), text_weight=weight))
