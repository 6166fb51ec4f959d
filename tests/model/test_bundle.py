"""Bundles: written in one step, verified byte for byte, refused with one readable line."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.bundle import Bundle, latest, load_bundle, read_manifest, save_bundle
from model.engine import Engine, Query
from model.errors import BundleError
from model.placement import Layer, Placement
from tests.factories import random_bundle, random_manifest


def write(folder: Path, version: str = "v1", bundle: Bundle | None = None) -> Path:
    """Save an untrained bundle."""
    bundle = random_bundle() if bundle is None else bundle
    manifest = bundle.manifest.model_copy(update={"version": version})
    heads = {"maps.0.weight": torch.zeros(2, 2)}
    model, catalog, sids = bundle.build_model(), bundle.catalog, bundle.sids
    return save_bundle(folder, manifest, model, catalog, sids, bundle.placement, heads)


def assert_one_line(error: BundleError, *words: str) -> None:
    """An operator reads one line that holds these words."""
    assert "\n" not in str(error)
    for word in words:
        assert word in str(error)


def test_a_saved_bundle_answers_like_the_one_in_memory(tmp_path: Path) -> None:
    """Weights, semantic IDs, codebooks and catalog survive the round trip."""
    bundle = random_bundle()
    query = Query([1, 2, 3], explain=True)

    loaded = load_bundle(write(tmp_path, bundle=bundle))

    assert Engine.from_bundle(loaded).recommend([query]) == Engine.from_bundle(bundle).recommend(
        [query]
    )
    assert loaded.catalog.frame.equals(bundle.catalog.frame)
    torch.testing.assert_close(loaded.placement.to_tensors(), bundle.placement.to_tensors())


def test_a_bundle_carries_the_encoder_that_places_new_items(tmp_path: Path) -> None:
    """Its layers and the two numbers come back as they were."""
    encoder = (Layer(torch.randn(3, 5), torch.randn(3)), Layer(torch.randn(4, 3), torch.randn(4)))
    codebooks = random_bundle().placement.codebooks
    placement = Placement(codebooks, encoder, normalize_residuals=False, text_weight=0.3)

    loaded = load_bundle(write(tmp_path, bundle=replace(random_bundle(), placement=placement)))

    torch.testing.assert_close(loaded.placement.encoder, encoder, rtol=0, atol=0)
    torch.testing.assert_close(loaded.placement.to_tensors(), placement.to_tensors())


def test_half_an_encoder_is_refused(tmp_path: Path) -> None:
    """A weight without its bias, though the hash agrees."""
    folder = write(tmp_path)
    path = folder / "sids.safetensors"
    names = ("encoder.0.weight", "encoder.1.weight")
    save_file(load_file(path) | {name: torch.ones(1, 1) for name in names}, path)
    forge(folder, "sids.safetensors")

    with pytest.raises(BundleError) as caught:
        load_bundle(folder)

    assert_one_line(caught.value, "encoder.0.bias", "export the bundle again")


def test_an_engine_loads_from_a_folder(tmp_path: Path) -> None:
    """Engine.load is load_bundle and the constructor in one."""
    engine = Engine.load(write(tmp_path), num_threads=torch.get_num_threads())

    assert engine.manifest.version == "v1"
    assert sorted(engine.manifest.files) == [
        "catalog.parquet",
        "map_heads.safetensors",
        "model.safetensors",
        "sids.safetensors",
        "trie.safetensors",
    ]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "sids.safetensors", "catalog.parquet", "map_heads.safetensors"]
)
def test_an_altered_file_is_refused(tmp_path: Path, name: str) -> None:
    """One flipped byte anywhere is found by its hash."""
    folder = write(tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)

    with pytest.raises(BundleError) as caught:
        load_bundle(folder)

    assert_one_line(caught.value, name, "SHA-256", "export the bundle again")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """Half a safetensors file does not load."""
    folder = write(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(BundleError) as caught:
        load_bundle(folder)

    assert_one_line(caught.value, "model.safetensors", "damaged or altered")


def test_a_truncated_file_is_refused_even_if_its_hash_was_forged(tmp_path: Path) -> None:
    """What is inside is checked too."""
    folder = write(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    forge(folder, "model.safetensors")

    with pytest.raises(BundleError) as caught:
        load_bundle(folder)

    assert_one_line(caught.value, "export the bundle again")


def forge(folder: Path, name: str) -> None:
    """Make the manifest agree with an altered file."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    """A manifest that does not describe its weights names the first tensor that differs."""
    folder = write(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"]["d_ff"] = 64
    (folder / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BundleError) as caught:
        Engine.load(folder)

    assert_one_line(caught.value, "ff.inner.weight", "(32, 16)", "(64, 16)")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """An incomplete copy does not load."""
    folder = write(tmp_path)
    (folder / "catalog.parquet").unlink()

    with pytest.raises(BundleError, match=r"catalog\.parquet is missing"):
        load_bundle(folder)


def test_an_unknown_file_is_named(tmp_path: Path) -> None:
    """Nothing rides along unverified."""
    folder = write(tmp_path)
    (folder / "weights.pkl").write_bytes(b"no")

    with pytest.raises(BundleError, match=r"unknown file weights\.pkl"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format_version": 2}, "format_version"),
        ({"colour": "red"}, "colour"),
        ({"model": {"backbone": "t5", "codebook_sizes": []}}, "codebook_sizes"),
    ],
)
def test_a_manifest_of_another_format_is_refused(
    tmp_path: Path, changes: dict[str, object], word: str
) -> None:
    """The error names the field."""
    folder = write(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BundleError) as caught:
        load_bundle(folder)

    assert_one_line(caught.value, word, "not a version 1 manifest")


def test_a_manifest_must_list_every_file(tmp_path: Path) -> None:
    """A file without a hash cannot be trusted."""
    folder = write(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["catalog.parquet"]
    (folder / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match="the manifest must list"):
        load_bundle(folder)


def test_codes_outside_their_codebook_are_refused(tmp_path: Path) -> None:
    """Semantic IDs are checked against the model they come with."""
    bundle = random_bundle()
    folder = write(tmp_path, bundle=bundle)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"]["codebook_sizes"] = [2, 5, 6]
    (folder / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match=r"code \d of level 0 is outside"):
        load_bundle(folder)


def test_the_newest_version_is_served(tmp_path: Path) -> None:
    """By created_at, whatever the folders are called; unfinished folders are no bundles."""
    bundle = random_bundle()
    for version, created in (("a", "2026-02-01"), ("b", "2026-01-01")):
        manifest = random_manifest(version=version).model_copy(update={"created_at": created})
        write(tmp_path, version, replace(bundle, manifest=manifest))
    (tmp_path / ".c.part").mkdir()
    (tmp_path / ".c.part" / "manifest.json").write_text("{}")

    assert latest(tmp_path).name == "a"
    assert latest(tmp_path / "b").name == "b"


def test_a_folder_without_bundles_is_refused(tmp_path: Path) -> None:
    """An empty folder and a missing one each get one line."""
    with pytest.raises(BundleError, match="holds no bundle"):
        latest(tmp_path)
    with pytest.raises(BundleError, match="no such folder"):
        latest(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=re.escape("manifest.json cannot be read")):
        read_manifest(tmp_path)


def test_saving_over_an_interrupted_attempt_leaves_one_whole_bundle(tmp_path: Path) -> None:
    """Leftovers of an earlier attempt are swept away, and nothing hidden stays."""
    leftover = tmp_path / ".v1.part"
    leftover.mkdir()
    (leftover / "junk").write_text("half")

    folder = write(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["v1"]
    assert load_bundle(folder).manifest.version == "v1"


def test_a_bundle_without_a_stored_trie_answers_the_same(tmp_path: Path) -> None:
    """Bundles from before it was stored build it on loading."""
    folder = write(tmp_path)
    query = Query([1, 2, 3], explain=True)
    with_trie = Engine.load(folder).recommend([query])
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["trie.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "trie.safetensors").unlink()

    assert Engine.load(folder).recommend([query]) == with_trie
