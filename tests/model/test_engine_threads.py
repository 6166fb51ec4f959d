"""One engine, several threads: the same answers as one after the other, and nothing miscounted."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from model.config import AnyModelConfig
from model.engine import Answer, Engine, Query
from model.prompt_cache import num_bytes
from model.queries import Boost
from tests.factories import TINY, TINY_QWEN, history_batch, random_bundle

NUM_THREADS = 6
PLAIN = [Query(history, limit=5) for history in history_batch([3, 7, 12, 5, 9, 1] * 2, seed=3)]
QUERIES = [
    replace(
        query,
        where=(None, "year >= 1992", "brand = 'a'")[number % 3],
        boosts=((), (Boost(0.5, "brand = 'b'"),), (Boost(1.0, items=(1, 2)),))[number % 3],
        retention_ratio=(None, 1.0)[number % 2],
        explain=number % 4 == 0,
    )
    for number, query in enumerate(PLAIN)
]
BATCHES = [QUERIES[start : start + 1 + start % 5] for start in range(len(QUERIES))]


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that interrupt each other as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("config", [TINY, TINY_QWEN], ids=["t5", "qwen"])
@pytest.mark.parametrize("cache_bytes", [0, 20_000, 10**8], ids=["none", "little", "much"])
def test_threads_answer_as_one_would(config: AnyModelConfig, cache_bytes: int) -> None:
    """Whatever they share: filters, boosts, histories that were read, and room for few of them."""
    bundle = random_bundle(config)
    expected = [Engine.from_bundle(bundle).recommend(batch) for batch in BATCHES]
    engine = Engine.from_bundle(bundle, cache_bytes=cache_bytes)

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        answers = list(threads.map(engine.recommend, BATCHES * 4))

    assert [ids(answer) for answer in answers] == [ids(answer) for answer in expected] * 4
    rows = engine.prompts._rows
    stats = engine.prompts.stats()
    assert stats.num_bytes == sum(num_bytes(row) for row, _ in rows.values())
    assert stats.num_bytes <= cache_bytes
    looked_up = sum(len(batch) for batch in BATCHES) * 4
    assert stats.hits + stats.misses == (looked_up if cache_bytes else 0)


def ids(answers: Sequence[Answer]) -> list[list[int]]:
    """The items of every answer of a batch."""
    return [[item.item_index for item in answer.items] for answer in answers]
