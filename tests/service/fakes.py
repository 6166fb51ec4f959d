"""A stand-in for Engine: answers at once and predictably, remembers what it was asked, can hang.

It knows NUM_ITEMS items, item-0 to item-19; the lower the number, the more popular. To a history
it answers the items that follow the newest one, in order and round the end.
"""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import polars as pl

from model.buckets import Buckets
from model.bundle import MANIFEST
from model.catalog import Catalog
from model.engine import Answer, Engine, Query, RankedItem, Shape
from model.prompt_cache import PromptCache
from model.rehearsal import Timing
from service.settings import Settings
from tests.factories import random_manifest, tiny_config

NUM_ITEMS = 20
PATIENCE_S = 20.0


class FakeEngine:
    """What the service uses of Engine. `gate` holds up every batch while it is not set."""

    retention_ratios = (0.5, 1.0)
    kernels = "torch"
    lengths = (10,)
    buckets = Buckets((10,))

    def __init__(self) -> None:
        self.manifest = random_manifest(tiny_config(max_history_items=10)).model_copy(
            update={"name": "fake", "version": "1", "metrics": {"recall@10": 0.5}}
        )
        self.catalog = Catalog.from_frame(
            pl.DataFrame(
                {
                    "item_id": [f"item-{index}" for index in range(NUM_ITEMS)],
                    "title": [None, *(f"Title {index}" for index in range(1, NUM_ITEMS))],
                    "popularity": range(NUM_ITEMS, 0, -1),
                }
            )
        )
        self.prompts = PromptCache(max_bytes=0, version="1")
        self.batches: list[list[Query]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self._begun = threading.Semaphore(0)

    def load(self, settings: Settings, folder: Path) -> Engine:  # noqa: ARG002  # as create_app asks
        """This object, for create_app: whatever the folder holds."""
        return self.as_engine()

    def as_engine(self) -> Engine:
        """This object, for the type checker."""
        return cast("Engine", self)

    @property
    def batch_sizes(self) -> list[int]:
        """Rows of each batch, the first one first."""
        return [len(batch) for batch in self.batches]

    async def until_busy(self) -> None:
        """Wait until one more batch has begun."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=PATIENCE_S)

    def validated_ratio(self, ratio: float | None) -> float | None:
        """No rounding here."""
        asked = self.retention_ratios[0] if ratio is None else ratio
        return asked if asked in self.retention_ratios else None

    def check_filter(self, where: str | None) -> None:
        """Every filter will do."""

    def rehearse(self, max_rows: int, max_tokens: int) -> list[Timing]:  # noqa: ARG002  # Engine's
        """Nothing to rehearse: every batch takes no time."""
        return []

    def shape(self, query: Query) -> Shape:
        """One length."""
        beam_width = max(query.beam_width or 20, query.limit)
        return Shape(10, beam_width, query.retention_ratio or self.retention_ratios[0])

    def popular(self, query: Query) -> list[int]:
        """The lowest numbers that are not seen."""
        return [index for index in range(NUM_ITEMS) if index not in query.history][: query.limit]

    def recommend(self, queries: Sequence[Query]) -> list[Answer]:
        """One answer a query, as soon as the gate is open."""
        self.batches.append(list(queries))
        self._begun.release()
        assert self.gate.wait(PATIENCE_S)
        if self.failure is not None:
            raise self.failure
        return [_answer(query) for query in queries]


def fake_bundle(folder: Path) -> Path:
    """The folder, with a version in it that has a manifest and nothing else."""
    (folder / "1").mkdir(parents=True, exist_ok=True)
    manifest = FakeEngine().manifest.model_dump_json()
    (folder / "1" / MANIFEST).write_text(manifest, encoding="utf-8")
    return folder


def _answer(query: Query) -> Answer:
    following = [(query.history[-1] + step) % NUM_ITEMS for step in range(1, NUM_ITEMS + 1)]
    legal = [index for index in following if not (query.exclude_seen and index in query.history)]
    items = [
        RankedItem(index, -float(rank), (index, 0, 0), (-float(rank), 0.0, 0.0))
        for rank, index in enumerate(legal[: query.limit], start=1)
    ]
    last = len(query.history) - 1
    return Answer(
        items=items,
        tokens_in=3 * len(query.history),
        tokens_kept=2,
        kept_history=[(last, 2)] if query.explain else None,
    )
