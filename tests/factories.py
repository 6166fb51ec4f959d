"""Tiny seeded models, semantic IDs and bundles: real parts, small sizes."""

import numpy as np
import polars as pl
import pytest
import torch

from model.backbone import Backbone
from model.bundle import Bundle, Manifest, RetentionProfile, new_model
from model.catalog import Catalog
from model.config import PruningConfig, QwenConfig, T5Config
from model.engine import Engine
from model.placement import Placement
from model.semantic_id import SidTable
from model.t5 import T5

COMPILES = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
"""For tests that let torch.compile work: its import warns of what torch itself still uses."""

TINY = T5Config(
    codebook_sizes=(7, 5, 6),
    max_history_items=12,
    d_model=16,
    num_heads=2,
    d_kv=16,
    d_ff=32,
    num_layers=3,
    num_decoder_layers=2,
    dropout=0.1,
    pruning=PruningConfig(layer=1, retention_ratio=0.5),
)


def tiny_config(**changes: object) -> T5Config:
    """TINY with some fields changed, validated again."""
    return T5Config.model_validate(TINY.model_dump() | changes)


TINY_QWEN = QwenConfig(
    codebook_sizes=(7, 5, 6),
    max_history_items=12,
    d_model=16,
    num_heads=4,
    num_kv_heads=2,
    d_kv=16,
    d_ff=32,
    num_layers=3,
    pruning=PruningConfig(layer=1, retention_ratio=0.5),
)


def tiny_qwen(**changes: object) -> QwenConfig:
    """TINY_QWEN with some fields changed, validated again."""
    return QwenConfig.model_validate(TINY_QWEN.model_dump() | changes)


def random_model(config: T5Config | QwenConfig = TINY, seed: int = 0) -> Backbone:
    """An untrained model of either backbone, in eval mode, with weights of a lively size."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = new_model(config).eval()
        if isinstance(config, QwenConfig):  # its own start is too timid to tell codes apart
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1 and "outputs" not in name:
                    parameter.data.normal_(std=0.3)
        return model


def random_t5(config: T5Config = TINY, seed: int = 0) -> T5:
    """An untrained model in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return T5(config).eval()


def random_table(
    num_items: int = 40, codebook_sizes: tuple[int, ...] = (7, 5, 6), seed: int = 0
) -> SidTable:
    """Random semantic IDs, some of them shared."""
    random = np.random.default_rng(seed)
    codes = np.stack([random.integers(0, size, num_items) for size in codebook_sizes], axis=1)
    return SidTable(codes.astype(np.int32), codebook_sizes, random.integers(0, 100, num_items))


def random_catalog(table: SidTable) -> Catalog:
    """Items named i0, i1, ... with the table's popularity."""
    ids = [f"i{item}" for item in range(table.num_items)]
    return Catalog.from_frame(
        pl.DataFrame(
            {
                "item_id": ids,
                "title": [f"Item {item}" for item in ids],
                "popularity": table.popularity,
                "brand": ["a" if item % 2 else "b" for item in range(table.num_items)],
                "year": [1990 + item % 7 for item in range(table.num_items)],
            }
        )
    )


def random_manifest(config: T5Config | QwenConfig = TINY, version: str = "v1") -> Manifest:
    """A manifest for an untrained model; ratios 0.25, 0.5 and 1 are validated."""
    return Manifest(
        name="tiny",
        version=version,
        created_at="2026-01-01T00:00:00Z",
        model=config,
        training={"recipe": "none"},
        metrics={"recall@10": 0.0},
        sap_profile=tuple(
            RetentionProfile(retention_ratio=ratio, recall_at_10=0.0, relative_cost=ratio)
            for ratio in (0.25, 0.5, 1.0)
        ),
        files={},
    )


def random_bundle(
    config: T5Config | QwenConfig = TINY, table: SidTable | None = None, seed: int = 0
) -> Bundle:
    """An untrained bundle in memory."""
    table = random_table(codebook_sizes=config.codebook_sizes) if table is None else table
    return Bundle(
        manifest=random_manifest(config),
        weights=random_model(config, seed).state_dict(),
        sids=table,
        placement=Placement(tuple(torch.zeros(size, 4) for size in config.codebook_sizes)),
        catalog=random_catalog(table),
    )


def random_engine(
    config: T5Config | QwenConfig = TINY, table: SidTable | None = None, seed: int = 0
) -> Engine:
    """An untrained engine on the CPU."""
    return Engine.from_bundle(random_bundle(config, table, seed))


def history_batch(lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Random histories over the items of random_table."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 40, length).tolist() for length in lengths]
