"""The files of one run, and which steps of it are done.

`runs/<name>/` holds data/, baselines.json, sids/, train/<key>/ and evaluation.json; bundles go to
`bundles/<name>/`. A step's stamp is written last and names its configuration and inputs: equal
keys, equal results. An interrupted step has no stamp and is done again.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import JsonValue
from safetensors.torch import load_file, save_file

from model.catalog import Catalog
from model.errors import ModelError
from model.placement import Placement
from model.semantic_id import SidTable
from training.config import Recipe
from training.dataset import read_histories, read_items
from training.files import atomic_path
from training.splits import Split, split_histories

FORMAT = 1
"""Raised when a step's files change in meaning; what was made before is then made again."""


class BusyError(ModelError):
    """Another process is at work on a run."""


@dataclass(frozen=True)
class Semantics:
    """What quantize leaves behind: semantic IDs of all items, and what gives one to a new item."""

    sids: SidTable
    placement: Placement


@dataclass(frozen=True)
class Run:
    """One recipe's run.

    Args:
        recipe: what to do.
        folder: runs/<name>.
        bundles: bundles/<name>.
    """

    recipe: Recipe
    folder: Path
    bundles: Path

    @property
    def data(self) -> Path:
        """The prepared data folder."""
        return self.folder / "data"

    @contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Keep a second process out of this run.

        Raises:
            BusyError: one is at work on it, and we do not wait for it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                message = f"{self.folder}: another process is at work on this run; wait for it"
                raise BusyError(message) from error
            yield

    def stamp(self, step: str) -> list[str]:
        """The key with which a step was finished last, and what else it noted; [] if never."""
        try:
            return (self.folder / "stamps" / step).read_text(encoding="utf-8").split()
        except OSError:
            return []

    def write_stamp(self, step: str, *words: str) -> None:
        """Record that a step is finished; nothing of it may be written afterwards."""
        with atomic_path(self.folder / "stamps" / step) as part:
            part.write_text("\n".join(words), encoding="utf-8")

    def split(self) -> Split:
        """The prepared interactions, split."""
        return split_histories(read_histories(self.data), self.recipe.split)

    def catalog(self, split: Split) -> Catalog:
        """The items with their popularity in the training part."""
        items = read_items(self.data)
        popularity = pl.Series(split.train.popularity(items.height), dtype=pl.Int64)
        return Catalog.from_frame(items.drop("text").with_columns(popularity=popularity))

    def write_semantics(self, semantics: Semantics) -> None:
        """Store semantic IDs, atomically."""
        tensors = semantics.placement.to_tensors()
        tensors["codes"] = torch.from_numpy(np.ascontiguousarray(semantics.sids.codes))
        tensors["codebook_sizes"] = torch.tensor(semantics.sids.codebook_sizes)
        with atomic_path(self.folder / "sids" / "sids.safetensors") as part:
            save_file(tensors, part)

    def read_semantics(self, popularity: npt.NDArray[np.int64]) -> Semantics:
        """What quantize left behind, with the popularity that orders buckets."""
        tensors = load_file(self.folder / "sids" / "sids.safetensors")
        sizes = tuple(tensors.pop("codebook_sizes").tolist())
        sids = SidTable(tensors.pop("codes").numpy(), sizes, popularity)
        return Semantics(sids, Placement.from_tensors(tensors))


def step_key(step: str, config: JsonValue, after: str) -> str:
    """Names a step's configuration and inputs."""
    text = json.dumps([FORMAT, step, config, after], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
