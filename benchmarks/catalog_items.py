"""What the catalog benchmark runs: one model, made-up items by the million, an index on disk.

The first items of every size are the same, codes included, so the same histories can be read over
any of them and only what can be found differs.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.torch import load_file, save_file

from model.backbone import Backbone
from model.bundle import Manifest, new_model
from model.catalog import Catalog
from model.config import T5Config
from model.engine import Engine
from model.leaves import Leaves
from model.placement import Placement
from model.semantic_id import SidTable
from model.speed import accelerate
from model.trie import SidTrie

LEVELS = (256,) * 4
HISTORY_ITEMS = 20  # 80 tokens
CONFIG = T5Config(codebook_sizes=LEVELS, max_history_items=HISTORY_ITEMS)
"""TIGER's: 4 + 4 blocks x 128, 6 heads of 64."""
DIM = 64
NUM_BUCKETS = 1000
"""Values of the attribute that filters ask for; each holds as many items."""
SIDS, TRIE = "sids.safetensors", "trie.safetensors"

Codes = npt.NDArray[np.int32]


class Memory(NamedTuple):
    """Resident bytes of this process: its own, and those of files mapped into it."""

    own: int
    mapped: int

    def __sub__(self, before: "Memory") -> "Memory":
        return Memory(self.own - before.own, self.mapped - before.mapped)


class Built(NamedTuple):
    """What building an index took, in seconds of processor time, and its size."""

    seconds: float
    num_bytes: int


@dataclass(frozen=True)
class Parts:
    """What all sizes have in common."""

    model: Backbone
    placement: Placement

    @classmethod
    def random(cls, config: T5Config = CONFIG) -> "Parts":
        """An untrained model, and codebooks that mean nothing."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            books = tuple(torch.randn(size, DIM) for size in config.codebook_sizes)
            model = new_model(config).eval().requires_grad_(requires_grad=False)
            return cls(accelerate(model, "float32"), Placement(books))


def memory() -> Memory:
    """Now; zeros where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.exists() else []
    kilobytes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    own, mapped = (1024 * int(kilobytes.get(name, 0)) for name in ("RssAnon", "RssFile"))
    return Memory(own, mapped)


def random_codes(num_items: int, config: T5Config) -> Codes:
    """(num_items, num_levels) uniform; those of fewer items are the first of more."""
    sizes = np.asarray(config.codebook_sizes, dtype=np.int32)
    random = np.random.default_rng(0).random((num_items, len(sizes)), dtype=np.float32)
    random *= sizes
    return random.astype(np.int32)


def random_catalog(num_items: int) -> Catalog:
    """Items i0, i1, ... without titles, popularity as it falls off in shops, random buckets."""
    random = np.random.default_rng(1)
    return Catalog(
        pl.select(
            item_id="i" + pl.int_range(num_items).cast(pl.String),
            title=pl.lit(None, pl.String),
            popularity=pl.Series(random.geometric(0.01, num_items) - 1),
            bucket=pl.Series(random.integers(0, NUM_BUCKETS, num_items, dtype=np.int16)),
        )
    )


def build_index(
    codes: Codes, popularity: npt.NDArray[np.int64], config: T5Config, folder: Path
) -> Built:
    """Sort the codes, make the trie, and write both as a bundle does."""
    table = SidTable(codes, config.codebook_sizes, popularity)
    start = time.process_time()
    leaves, trie = table.leaves, SidTrie.from_sids(table.sids)
    seconds = time.process_time() - start
    tensors = trie.to_tensors() | leaves.to_tensors()
    save_file(tensors, folder / TRIE)
    save_file({"codes": torch.from_numpy(codes)}, folder / SIDS)
    return Built(seconds, codes.nbytes + sum(tensor.nbytes for tensor in tensors.values()))


def load_engine(parts: Parts, catalog: Catalog, folder: Path) -> Engine:
    """An engine over the written index, mapped into memory, as a bundle's is."""
    index = load_file(folder / TRIE)
    codes = load_file(folder / SIDS)["codes"].numpy()
    config = parts.model.config
    assert isinstance(config, T5Config)
    leaves, trie = Leaves.from_tensors(index), SidTrie.from_tensors(index)
    table = SidTable(codes, config.codebook_sizes, catalog.popularity, leaves)
    manifest = Manifest(
        name="catalog",
        version="1",
        created_at="",
        model=config,
        training={},
        metrics={},
        sap_profile=(),
        files={},
    )
    return Engine(manifest, parts.model, table, catalog, placement=parts.placement, trie=trie)


def random_histories(count: int, num_items: int, config: T5Config = CONFIG) -> list[list[int]]:
    """Full ones, of the first `num_items` items."""
    random = np.random.default_rng(2)
    shape = (count, config.max_history_items)
    histories: list[list[int]] = random.integers(0, num_items, shape).tolist()
    return histories


def new_items(count: int, first: int) -> tuple[pl.DataFrame, npt.NDArray[np.float32]]:
    """Items that no catalog has, and their vectors."""
    names = [f"new{number}" for number in range(first, first + count)]
    vectors = np.random.default_rng(first).normal(size=(count, DIM)).astype(np.float32)
    return pl.DataFrame({"item_id": names, "bucket": [0] * count}), vectors
