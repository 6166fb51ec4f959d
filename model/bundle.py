"""The bundle folder: all that a service needs of a trained model, verified before it is used.

`bundles/<name>/<version>/` holds manifest.json (written last; names and hashes every other file),
model.safetensors, map_heads.safetensors (training only, never loaded for serving),
sids.safetensors (codes, and what places new items), trie.safetensors (the codes in search order,
mapped into memory rather than read) and catalog.parquet. A bundle is written under a
hidden name, synced and renamed, so a folder with a version for a name is always whole.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from polars.exceptions import PolarsError
from pydantic import BaseModel, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.backbone import Backbone
from model.catalog import Catalog
from model.config import AnyModelConfig, T5Config
from model.errors import BundleError, ModelError
from model.leaves import Leaves
from model.placement import Placement
from model.qwen import Qwen
from model.semantic_id import SidTable
from model.t5 import T5
from model.trie import SidTrie

MANIFEST, WEIGHTS, HEADS = "manifest.json", "model.safetensors", "map_heads.safetensors"
SIDS, TRIE, CATALOG = "sids.safetensors", "trie.safetensors", "catalog.parquet"
FILES = frozenset({WEIGHTS, HEADS, SIDS, CATALOG})
MORE_FILES = frozenset({TRIE})
"""What older bundles do without."""
SCORE_CONTRACT = "sum over levels of the natural log of softmax over that level's whole codebook"


class RetentionProfile(BaseModel, frozen=True, extra="forbid"):
    """What one validated retention ratio costs and yields on the validation split."""

    retention_ratio: float
    recall_at_10: float
    relative_cost: float
    """Encoder time as a share of the unpruned encoder's."""


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """What manifest.json holds: all it takes to rebuild the model, and how it came to be."""

    format_version: Literal[1] = 1
    name: str
    version: str
    created_at: str
    model: AnyModelConfig
    training: dict[str, JsonValue]
    """The recipe as it ran; for people, the service ignores it."""
    metrics: dict[str, float]
    """On the test split, e.g. {"recall@10": 0.061}."""
    score_contract: str = SCORE_CONTRACT
    sap_profile: tuple[RetentionProfile, ...]
    """Every retention ratio that a request may ask for."""
    files: dict[str, str]
    """File name -> SHA-256 in hex."""


def new_model(config: AnyModelConfig) -> Backbone:
    """A model with fresh random weights."""
    return T5(config) if isinstance(config, T5Config) else Qwen(config)


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory; `weights` may be absent of nothing that `manifest.model` asks for."""

    manifest: Manifest
    weights: dict[str, Tensor]
    sids: SidTable
    placement: Placement
    catalog: Catalog
    trie: SidTrie | None = None
    """Of `sids`, if it was stored; else it is built."""

    def build_model(self) -> Backbone:
        """The model with its weights, in eval mode, on the CPU in float32."""
        with torch.device("meta"):
            skeleton = new_model(self.manifest.model)
        expected = {name: tuple(value.shape) for name, value in skeleton.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in self.weights.items()}
        wrong = sorted(n for n in expected.keys() | found if expected.get(n) != found.get(n))
        if wrong:
            raise BundleError(
                f"{WEIGHTS}: {wrong[0]} has shape {found.get(wrong[0])}, the manifest's model "
                f"needs {expected.get(wrong[0])}; export the bundle again"
            )
        model = new_model(self.manifest.model)
        model.load_state_dict(self.weights)
        return model.eval()


def save_bundle(
    folder: Path,
    manifest: Manifest,
    model: Backbone,
    catalog: Catalog,
    sids: SidTable,
    placement: Placement,
    heads: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write `folder/<manifest.version>/` in one step and return it; manifest.files is filled in."""
    final = folder / manifest.version
    part = folder / f".{manifest.version}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file(_contiguous(model.state_dict()), part / WEIGHTS)
    save_file(_contiguous(heads or {}), part / HEADS)
    tables = placement.to_tensors() | {"codes": torch.from_numpy(sids.codes)}
    save_file(_contiguous(tables), part / SIDS)
    trie = SidTrie.from_sids(sids.sids)
    save_file(_contiguous(trie.to_tensors() | sids.leaves.to_tensors()), part / TRIE)
    catalog.to_frame().write_parquet(part / CATALOG)
    hashes = {name: _sha256(part / name) for name in sorted(FILES | MORE_FILES)}
    manifest = manifest.model_copy(update={"files": hashes})
    (part / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for path in (*part.iterdir(), part):
        _sync(path)
    part.rename(final)
    _sync(folder)
    return final


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest, or raise BundleError."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{folder}: not a bundle, {MANIFEST} cannot be read") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BundleError(
            f"{path}: not a version 1 manifest ({where}: {first['msg']}); export the bundle again"
        ) from error


def latest(folder: Path) -> Path:
    """The newest version below `folder` by created_at, or `folder` itself if it is a bundle."""
    if (folder / MANIFEST).exists():
        return folder
    try:
        found = [path for path in folder.iterdir() if (path / MANIFEST).exists()]
    except OSError as error:
        raise BundleError(f"{folder}: no such folder of bundles") from error
    versions = [path for path in found if not path.name.startswith(".")]
    if not versions:
        raise BundleError(f"{folder}: holds no bundle; train one or name another folder")
    return max(versions, key=lambda path: (read_manifest(path).created_at, path.name))


def load_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle: names, hashes, shapes; BundleError says what is wrong."""
    manifest = read_manifest(folder)
    _verify_files(folder, manifest)
    try:
        weights, tables = load_file(folder / WEIGHTS), load_file(folder / SIDS)
        catalog = Catalog.from_frame(pl.read_parquet(folder / CATALOG))
        codes = tables.pop("codes").numpy().astype(np.int32, copy=False)
        index = load_file(folder / TRIE) if TRIE in manifest.files else {}
        leaves = Leaves.from_tensors(index) if index else None
        trie = SidTrie.from_tensors(index) if index else None
        sids = SidTable(codes, manifest.model.codebook_sizes, catalog.popularity, leaves)
        placement = Placement.from_tensors(tables)
    except (OSError, SafetensorError, PolarsError, ModelError, KeyError) as error:
        raise BundleError(f"{folder}: {error}; export the bundle again") from error
    return Bundle(manifest, weights, sids, placement, catalog, trie)


def _verify_files(folder: Path, manifest: Manifest) -> None:
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    listed = manifest.files.keys()
    if not FILES <= listed <= FILES | MORE_FILES:
        raise BundleError(f"{folder}: the manifest must list {', '.join(sorted(FILES))}")
    if unknown := sorted(present - listed):
        raise BundleError(f"{folder}: unknown file {unknown[0]}; remove it or export again")
    if missing := sorted(listed - present):
        raise BundleError(f"{folder}: {missing[0]} is missing; export the bundle again")
    for name, expected in manifest.files.items():
        found = _sha256(folder / name)
        if found != expected:
            raise BundleError(
                f"{folder / name}: damaged or altered, SHA-256 is {found[:12]}... and should be "
                f"{expected[:12]}...; copy or export the bundle again"
            )


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
