"""Whom the service's benchmarks serve: bundles with random weights, users, histories, requests."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from benchmarks.decode_workload import new_case
from benchmarks.http_load import Call
from model.backbone import Backbone
from model.bundle import Manifest, RetentionProfile, new_model, save_bundle
from model.catalog import Catalog
from model.config import PruningConfig, QwenConfig, T5Config
from model.placement import Placement
from model.semantic_id import SidTable
from service.history import open_store

NUM_ITEMS, NUM_USERS, NUM_INTERACTIONS = 1_682, 943, 100_000
"""Of MovieLens 100K."""
HISTORY_ITEMS = 40
LIMIT = 10
SEED = 0
GENRES = ("Action", "Comedy", "Crime", "Documentary", "Drama", "Horror", "Romance", "Thriller")

DEMO = QwenConfig(
    codebook_sizes=(256, 256),
    max_history_items=50,
    d_model=64,
    num_heads=4,
    num_kv_heads=2,
    d_kv=16,
    d_ff=192,
    num_layers=4,
    pruning=PruningConfig(layer=1, retention_ratio=0.5),
)
"""What `make serve` trains and serves."""
TIGER = T5Config(codebook_sizes=(256,) * 4)
"""What transformers can serve, too: 4 + 4 blocks x 128."""
TIGER_ITEMS = 12_000

Histories = dict[str, list[str]]
"""Item ids by user id, oldest first."""


@dataclass(frozen=True)
class Population:
    """A bundle, and the users who ask it."""

    bundle: Path
    histories: Histories

    @property
    def users(self) -> list[str]:
        """Their ids."""
        return list(self.histories)

    def fill(self, url: str) -> None:
        """Put the histories into a store."""

        async def write() -> None:
            store = open_store(url, max_items=200, patience=50)
            try:
                await store.import_many(list(self.histories.items()), replace=True)
            finally:
                await store.close()

        asyncio.run(write())

    def stored_calls(self) -> list[Call]:
        """Every user asks once, by the stored history."""
        bodies = [{"user_id": user, "limit": LIMIT} for user in self.users]
        return [Call("/recommend", body, items=LIMIT) for body in bodies]


def demo_population(folder: Path, num_users: int = NUM_USERS) -> Population:
    """The demo's model, untrained, and as many users as MovieLens 100K has."""
    random = np.random.default_rng(SEED)
    codes = np.stack([random.integers(0, size, NUM_ITEMS) for size in DEMO.codebook_sizes], axis=1)
    popularity = zipf_popularity(NUM_ITEMS)
    table = SidTable(codes.astype(np.int32), DEMO.codebook_sizes, popularity)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = new_model(DEMO).eval()
    bundle = write_bundle(folder / "demo", "demo", model, table)
    return Population(bundle, histories_of(table, num_users))


def t5_population(
    folder: Path, num_users: int, config: T5Config = TIGER, num_items: int = TIGER_ITEMS
) -> Population:
    """A T5 that transformers can rank alike, see `new_case`, and its users."""
    case = new_case(num_items, HISTORY_ITEMS, config)
    table = case.table
    bundle = write_bundle(folder / "t5", "t5", case.model, table)
    return Population(bundle, histories_of(table, num_users))


def given_population(bundle: Path, data: Path) -> Population:
    """A trained bundle, and users of a run's histories.parquet: their newest HISTORY_ITEMS."""
    rows = pl.read_parquet(data, columns=["user_id", "item_ids"]).iter_rows()
    return Population(bundle, {str(user): items[-HISTORY_ITEMS:] for user, items in rows})


def zipf_popularity(num_items: int) -> npt.NDArray[np.int64]:
    """(num_items,): how often each item was interacted with, the first one most."""
    shares = 1 / np.arange(1, num_items + 1) / np.log(num_items)
    return np.array(NUM_INTERACTIONS * shares, dtype=np.int64)


def histories_of(table: SidTable, num_users: int) -> Histories:
    """Users with HISTORY_ITEMS different items each, popular ones more often."""
    random = np.random.default_rng(SEED)
    weights = zipf_popularity(table.num_items) + 1.0
    weights /= weights.sum()
    return {
        f"u{user}": [
            f"i{item}"
            for item in random.choice(table.num_items, HISTORY_ITEMS, replace=False, p=weights)
        ]
        for user in range(num_users)
    }


def write_bundle(folder: Path, name: str, model: Backbone, table: SidTable) -> Path:
    """Save untrained weights as what the service loads; items are i0, i1, ..."""
    manifest = Manifest(
        name=name,
        version="untrained",
        created_at=datetime.now(tz=UTC).isoformat(),
        model=model.config,
        training={},
        metrics={},
        sap_profile=tuple(
            RetentionProfile(retention_ratio=ratio, recall_at_10=0.0, relative_cost=ratio)
            for ratio in (1 / 3, 0.5, 1.0)
        ),
        files={},
    )
    sizes = model.config.codebook_sizes
    placement = Placement(tuple(torch.zeros(size, 4) for size in sizes))
    return save_bundle(folder, manifest, model, catalog_of(table), table, placement)


def catalog_of(table: SidTable) -> Catalog:
    """Titles and two attributes to filter by."""
    numbers: Sequence[int] = range(table.num_items)
    return Catalog.from_frame(
        pl.DataFrame(
            {
                "item_id": [f"i{item}" for item in numbers],
                "title": [f"Title of item {item} (19{item % 100:02})" for item in numbers],
                "popularity": table.popularity,
                "year": [1930 + item % 70 for item in numbers],
                "genre": [GENRES[item % len(GENRES)] for item in numbers],
            }
        )
    )
