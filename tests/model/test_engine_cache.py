"""An engine with a prompt cache: the answers of one without."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import QwenConfig, T5Config
from model.engine import Answer, Engine, Query
from tests.factories import TINY, TINY_QWEN, history_batch, random_bundle

LENGTHS = [1, 2, 3, 5, 8, 12, 30]
ENOUGH = 1 << 20

Config = T5Config | QwenConfig

BOTH = pytest.mark.parametrize("config", [TINY, TINY_QWEN], ids=["t5", "qwen"])
RATIOS = pytest.mark.parametrize("ratio", [1.0, 0.5, 0.25])


@cache
def engine_with(config: Config, cache_bytes: int) -> Engine:
    """An engine of the same weights, whatever its cache."""
    return Engine.from_bundle(random_bundle(config), cache_bytes=cache_bytes)


def assert_same_answers(found: Sequence[Answer], expected: Sequence[Answer]) -> None:
    """The same items, kept tokens and counts; scores to rounding."""
    for one, other in zip(found, expected, strict=True):
        assert [item.item_index for item in one.items] == [item.item_index for item in other.items]
        np.testing.assert_allclose(
            [item.score for item in one.items],
            [item.score for item in other.items],
            rtol=1e-5,
            atol=1e-5,
        )
        assert (one.tokens_in, one.tokens_kept) == (other.tokens_in, other.tokens_kept)
        assert one.kept_history == other.kept_history


@BOTH
@RATIOS
def test_an_answer_is_the_same_from_the_cache(config: Config, ratio: float) -> None:
    """Cold, warm, alone or in a batch: the items, scores and kept tokens of no cache."""
    engine, plain = engine_with(config, ENOUGH), engine_with(config, 0)
    queries = [Query(h, retention_ratio=ratio, explain=True) for h in history_batch(LENGTHS)]
    expected = plain.recommend(queries)

    cold = engine.recommend(queries)
    warm = engine.recommend(queries)
    alone = [engine.recommend([query])[0] for query in queries]

    assert_same_answers(cold, expected)
    assert_same_answers(warm, expected)
    assert_same_answers(alone, expected)


histories = st.lists(st.integers(0, 39), min_size=1, max_size=5)
questions = st.tuples(histories, st.sampled_from([1.0, 0.5, 0.25]))


@BOTH
@settings(max_examples=25)
@given(
    pool=st.lists(questions, min_size=1, max_size=6),
    batches=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=4),
    cache_bytes=st.sampled_from([2_000, 20_000, ENOUGH]),
)
def test_no_order_of_requests_changes_an_answer(
    config: Config,
    pool: list[tuple[list[int], float]],
    batches: list[list[int]],
    cache_bytes: int,
) -> None:
    """Users come back among others, again and again, with a cache too small or large enough."""
    engine, plain = engine_with(config, cache_bytes), engine_with(config, 0)
    engine.prompts.clear()

    for batch in batches:
        asked = [pool[user % len(pool)] for user in batch]
        queries = [Query(h, retention_ratio=ratio, explain=True) for h, ratio in asked]
        assert_same_answers(engine.recommend(queries), plain.recommend(queries))
        assert engine.prompts.stats().num_bytes <= cache_bytes


def test_a_change_of_history_reads_anew() -> None:
    """A click later, or one fewer, is another history; what the window cuts off is not."""
    engine = Engine.from_bundle(random_bundle(), cache_bytes=ENOUGH)
    history = history_batch([20])[0]

    for changed in (history, [*history, 1], history[:-1], [1, 2, *history]):
        engine.recommend([Query(changed)])

    assert (engine.prompts.stats().hits, engine.prompts.stats().misses) == (1, 3)


def test_bfloat16_rows_are_kept_as_they_are() -> None:
    """The same numbers come back, in half the memory of float32."""
    queries = [Query(history) for history in history_batch([8, 8])]
    rough = Engine.from_bundle(random_bundle(), dtype="bfloat16", cache_bytes=ENOUGH)
    exact = Engine.from_bundle(random_bundle(), cache_bytes=ENOUGH)

    answers = [rough.recommend(queries) for _ in range(2)]
    exact.recommend(queries)

    assert_same_answers(answers[1], answers[0])
    assert rough.prompts.stats().num_bytes < 0.6 * exact.prompts.stats().num_bytes


def test_exact_decoding_reads_a_history_once() -> None:
    """Wider beams go over what the first search read."""
    engine = Engine.from_bundle(random_bundle(), cache_bytes=ENOUGH)

    engine.recommend([Query(h, limit=3, beam_width=1, decode="exact") for h in [[1, 2]]])

    assert engine.prompts.stats().misses == 1
    assert engine.prompts.stats().hits > 0


def test_a_rehearsal_leaves_the_cache_empty() -> None:
    """Nobody has the histories that it makes up."""
    engine = Engine.from_bundle(random_bundle(), cache_bytes=ENOUGH)

    engine.rehearse(max_rows=4, max_tokens=100)

    assert engine.prompts.stats().rows == engine.prompts.stats().misses == 0
