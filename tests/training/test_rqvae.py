"""The RQ-VAE: learns, repeats itself, keeps its codes in use, and can place what comes later."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from model.bundle import latest, load_bundle
from model.placement import Placement, place, text_vectors
from tests.training.recipes import recipe_file, run_all, run_of
from training.data_config import QuantizerConfig
from training.dataset import read_items
from training.embeddings import Vectors, embed_items, embed_text
from training.quantizer import Quantized
from training.rqvae import RqVae, fit_rqvae, nearest, restart, train
from training.sid_report import sid_report

NETWORK = {"latent_dim": 4, "hidden_dims": [16], "batch_size": 64, "max_steps": 60}


def config_of(**changes: object) -> QuantizerConfig:
    """A small RQ-VAE."""
    fields = {"kind": "rq-vae", "codebook_sizes": (8, 6), "rq_vae": NETWORK}
    return QuantizerConfig.model_validate(fields | changes)


def groups(num_items: int = 200, dim: int = 8) -> Vectors:
    """Items around eight far-away places."""
    random = np.random.default_rng(0)
    places = 10 * random.normal(size=(8, dim))
    return (places[np.arange(num_items) % 8] + random.normal(size=(num_items, dim))).astype("f4")


def placement_of(found: Quantized) -> Placement:
    """What a bundle would hold."""
    codebooks = tuple(torch.from_numpy(codebook) for codebook in found.codebooks)
    return Placement(codebooks, found.encoder, normalize_residuals=False)


def test_the_same_seed_gives_the_same_codes() -> None:
    """Bit for bit, network included; another seed gives others."""
    first, second = (fit_rqvae(groups(), config_of()) for _ in range(2))
    other = fit_rqvae(groups(), config_of(seed=1))

    np.testing.assert_array_equal(first.codes, second.codes)
    torch.testing.assert_close(first.encoder, second.encoder, rtol=0, atol=0)
    np.testing.assert_array_equal(np.concatenate(first.codebooks), np.concatenate(second.codebooks))
    assert (first.codes != other.codes).any()


def test_a_fitted_item_is_placed_with_its_own_codes() -> None:
    """Vectors as they are: the network's scale is part of the encoder."""
    vectors = groups()
    found = fit_rqvae(vectors, config_of())

    np.testing.assert_array_equal(place(vectors, placement_of(found)), found.codes)
    assert [codebook.shape for codebook in found.codebooks] == [(8, 4), (6, 4)]


def test_new_items_join_their_group() -> None:
    """Items near a group, none of them seen, get a first code that its items have."""
    vectors = groups(400)
    found = fit_rqvae(vectors[:200], config_of())

    codes = place(vectors[200:], placement_of(found))[:, 0].reshape(-1, 8)

    own = found.codes[:, 0].reshape(-1, 8)
    assert np.mean([np.isin(codes[:, n], own[:, n]) for n in range(8)]) > 0.9


def test_learning_lowers_the_loss() -> None:
    """From a random network around codebooks of k-means to less than a third of it."""
    inputs = torch.from_numpy(groups() / np.float32(10))
    configs = [config_of(rq_vae=NETWORK | {"max_steps": steps}) for steps in (1, 200)]

    first, last = (float(train(inputs, config)(inputs, 0.25)[0].detach()) for config in configs)

    assert last < first / 3


def test_the_codes_sum_goes_to_the_decoder_and_its_gradient_to_the_encoder() -> None:
    """Straight through: with beta = 0 the encoder learns from the reconstruction alone."""
    generator = torch.Generator().manual_seed(0)
    model = RqVae((3, 2), generator)
    model.codebooks.extend(torch.randn(4, 2, generator=generator) for _ in range(2))
    inputs = torch.randn(5, 3, generator=generator)

    loss, codes, residuals = model(inputs, 0.0)
    loss.backward()

    chosen = [codebook[code] for codebook, code in zip(model.codebooks, codes, strict=True)]
    errors = [(points - c).square().mean() for points, c in zip(residuals, chosen, strict=True)]
    made = model.decoder(sum(chosen)) - inputs
    torch.testing.assert_close(loss, made.square().mean() + sum(errors))
    back = 2 / made.numel() * made @ model.decoder[0].weight
    torch.testing.assert_close(model.encoder[0].weight.grad, back.T @ inputs)
    torch.testing.assert_close(residuals[1], residuals[0] - chosen[0])


def test_unused_codes_move_to_what_is_left_over() -> None:
    """Used ones stay; each moved one is one of the residuals."""
    codebook = torch.arange(8.0).reshape(4, 2)
    residuals = torch.tensor([[50.0, 50.0], [60.0, 60.0]])

    restart(codebook, torch.tensor([True, False, True, False]), residuals, torch.Generator())

    assert codebook[[1, 3]].tolist() == [[2, 3], [6, 7]]
    assert {tuple(row) for row in codebook[[0, 2]].tolist()} <= {(50, 50), (60, 60)}


def test_of_equally_near_codes_the_lower_is_taken() -> None:
    """As faiss does, and placing."""
    codebook = torch.tensor([[9.0, 0.0], [1.0, 0.0], [1.0, 0.0]])

    assert nearest(torch.tensor([[2.0, 1.0]]), codebook).tolist() == [1]


def test_most_codes_stay_in_use() -> None:
    """Many codes for random items: those that go out of use are moved."""
    vectors = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)

    found = fit_rqvae(vectors, config_of(codebook_sizes=(64, 64)))

    assert min(sid_report(found).codes_used) > 50


def test_codes_may_be_filled_evenly() -> None:
    """Each level of 200 items and 8 or 6 codes; more than the nearest codes would hold."""
    config = config_of(max_code_load=1.0)

    codes = fit_rqvae(groups() ** 3, config).codes

    assert np.bincount(codes[:, 0]).max() == 25
    assert np.bincount(codes[:, 1]).max() == 34


def test_a_small_catalog_has_small_codebooks() -> None:
    """Five items need five codes; a note says so, and collisions get their suffix."""
    found = fit_rqvae(groups(5), config_of(codebook_sizes=(256, 4), collisions="suffix"))

    assert found.codebook_sizes[0] == 5
    assert "level 0: 256 codes asked for" in found.notes[0]
    assert sid_report(found).unique_share == 1


def test_equal_items_are_one_bucket() -> None:
    """Nothing to tell apart is no error."""
    codes = fit_rqvae(np.ones((6, 3), dtype=np.float32), config_of()).codes

    assert (codes == codes[0]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rq_vae": {"beta": 1.0}}, r"\[quantizer.rq_vae\] is only read with"),
        ({"kind": "rq-vae", "file": "sids.tsv"}, "file is only read with"),
        ({"kind": "published", "file": "t.tsv", "max_code_load": 2.0}, "max_code_load is not read"),
        ({"max_code_load": 0.9}, "greater than or equal to 1"),
    ],
)
def test_a_contradictory_quantizer_is_refused(settings: dict[str, object], message: str) -> None:
    """Said when the recipe is read."""
    with pytest.raises(ValidationError, match=message):
        QuantizerConfig.model_validate(settings)


def test_a_bundle_places_the_items_of_its_run(tmp_path: Path) -> None:
    """From recipe to bundle: the encoder travels with the codes, and the model starts from them."""
    path = recipe_file(tmp_path)
    table = "[quantizer.rq_vae]\nlatent_dim = 4\nhidden_dims = [8]\nmax_steps = 20\n\n[model]"
    text = path.read_text().replace("[quantizer]", '[quantizer]\nkind = "rq-vae"')
    text = text.replace("[model]", table) + "code_embedding_scale = 0.1\n"
    blocks = "\n[embedding]\ntext_weight = 0.5\ncollaborative_weight = 1.0\n"
    path.write_text(text + blocks)
    run = run_of(tmp_path, path)

    run_all(run)

    bundle = load_bundle(latest(tmp_path / "bundles" / "tiny"))
    placement = bundle.placement
    assert [codebook.shape[1] for codebook in placement.codebooks] == [4, 4]
    assert (placement.normalize_residuals, placement.text_weight) == (False, 0.5)
    items = read_items(run.data)
    vectors = embed_items(items, run.split().train, run.recipe.embedding)
    np.testing.assert_array_equal(place(vectors, placement), bundle.sids.codes)
    text_only = text_vectors(embed_text(items["text"].to_list()), placement)
    np.testing.assert_allclose(text_only[:, :256], vectors[:, :256], rtol=1e-6)
