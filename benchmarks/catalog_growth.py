"""The same model over ever larger catalogs: requests, index, memory, changes."""

import gc
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.catalog_items import (
    SIDS,
    TRIE,
    Built,
    Memory,
    Parts,
    build_index,
    load_engine,
    memory,
    new_items,
    random_catalog,
    random_codes,
)
from benchmarks.catalog_result import Growth
from model.config import T5Config
from model.engine import Engine, Query
from training.cost import interleaved_seconds

LIMIT = 10
GROUP = 100
"""New items that are put together."""


@dataclass(frozen=True)
class Shop:
    """An engine over a catalog, and what it took to open it.

    Args:
        engine: over the mapped index.
        num_items: of its catalog, before anything is added.
        built: its index.
        load_s: from the files to an engine that can answer, the catalog aside.
        verify_s: SHA-256 of the index files.
        catalog_s: making the catalog of ids, and finding ids in it.
        catalog_bytes: that the catalog takes.
        touched: memory that loading and the first answers took.
    """

    engine: Engine
    num_items: int
    built: Built
    load_s: float
    verify_s: float
    catalog_s: float
    catalog_bytes: int
    touched: Memory


def open_shop(
    parts: Parts, num_items: int, folder: Path, histories: Sequence[Sequence[int]]
) -> Shop:
    """Build an index, write it, forget it, and map it."""
    config = parts.model.config
    assert isinstance(config, T5Config)
    folder.mkdir()
    before, start = memory(), time.process_time()
    catalog = random_catalog(num_items)
    catalog.index_of("")
    catalog_s = time.process_time() - start
    gc.collect()
    catalog_bytes = (memory() - before).own
    built = build_index(random_codes(num_items, config), catalog.popularity, config, folder)
    gc.collect()
    before, start = memory(), time.process_time()
    engine = load_engine(parts, catalog, folder)
    load_s = time.process_time() - start
    ask(engine, histories)
    touched = memory() - before
    verify_s = _seconds(lambda: [_sha256(folder / name) for name in (TRIE, SIDS)])
    return Shop(engine, num_items, built, load_s, verify_s, catalog_s, catalog_bytes, touched)


def ask(engine: Engine, histories: Sequence[Sequence[int]]) -> None:
    """One request after the other."""
    for history in histories:
        engine.recommend([Query(history, limit=LIMIT)])


def request_ms(
    shops: Sequence[Shop], histories: Sequence[Sequence[int]], budget_s: float, min_rounds: int
) -> list[float]:
    """Of each shop, for one request."""
    works = {place: _asking(shop, histories) for place, shop in enumerate(shops)}
    best = interleaved_seconds(works, budget_s, min_rounds)
    return [1e3 * best[place] / len(histories) for place in range(len(shops))]


def measure_growth(shop: Shop, milliseconds: float, repeats: int) -> Growth:
    """All about one size; changes the shop's catalog.

    Args:
        shop: as it was opened.
        milliseconds: of a request.
        repeats: of each change; the fastest counts.
    """
    engine, built = shop.engine, shop.built
    num_leaves = engine.inventory.trie.num_leaves
    add_one = [_add(engine, 1, place) for place in range(repeats)]
    add_group = [_add(engine, GROUP, repeats + place * GROUP) for place in range(repeats)]
    first, *more = [_seconds(_removing(engine, place)) for place in range(1 + repeats)]
    return Growth(
        items=shop.num_items,
        leaves=num_leaves,
        request_ms=round(milliseconds, 3),
        build_s=round(built.seconds, 4),
        load_s=round(shop.load_s, 4),
        verify_s=round(shop.verify_s, 4),
        bytes_per_item=round(built.num_bytes / shop.num_items, 2),
        own_mb=round(shop.touched.own / 1e6, 1),
        mapped_mb=round(shop.touched.mapped / 1e6, 1),
        catalog_s=round(shop.catalog_s, 4),
        catalog_bytes_per_item=round(shop.catalog_bytes / shop.num_items, 1),
        add_one_ms=round(1e3 * min(add_one), 3),
        add_hundred_ms=round(1e3 * min(add_group), 3),
        first_removal_ms=round(1e3 * first, 3),
        removal_ms=round(1e3 * min(more), 3),
    )


def _asking(shop: Shop, histories: Sequence[Sequence[int]]) -> Callable[[], None]:
    return lambda: ask(shop.engine, histories)


def _add(engine: Engine, count: int, first: int) -> float:
    items, vectors = new_items(count, first)
    return _seconds(lambda: engine.put_items(items, vectors))


def _removing(engine: Engine, item: int) -> Callable[[], object]:
    return lambda: engine.remove_items([engine.catalog.item_ids[item]])


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
