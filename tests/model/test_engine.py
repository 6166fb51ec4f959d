"""Engine.recommend: legality, independence of batch mates, exact no-pruning, explanations."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from model.config import QwenConfig, T5Config
from model.engine import Answer, Engine, Query
from model.errors import ModelError
from model.semantic_id import SidTable
from tests.factories import (
    TINY,
    TINY_QWEN,
    history_batch,
    random_bundle,
    random_engine,
    random_manifest,
    random_table,
    tiny_config,
)

LENGTHS = [1, 2, 3, 5, 8, 12, 30]

Config = T5Config | QwenConfig

BOTH = pytest.mark.parametrize("config", [TINY, TINY_QWEN], ids=["t5", "qwen"])


def items_and_scores(answer: Answer) -> tuple[list[int], list[float]]:
    """An answer's items and their scores."""
    return [item.item_index for item in answer.items], [item.score for item in answer.items]


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_model_only_returns_items_that_exist(config: Config, seed: int) -> None:
    """Random weights, random histories: every answer is full, legal and without repeats."""
    engine = random_engine(config, seed=seed)
    sids = {tuple(codes) for codes in engine.sids.codes.tolist()}

    answers = engine.recommend([Query(h, limit=15) for h in history_batch(LENGTHS, seed)])

    for answer in answers:
        items, _ = items_and_scores(answer)
        assert len(set(items)) == len(items) == 15
        assert set(items) <= set(range(40))
        assert all(item.sid in sids for item in answer.items)


@BOTH
def test_a_user_gets_the_same_answer_alone_and_in_any_batch(config: Config) -> None:
    """Batch mates and padding change no item, no score beyond rounding, and no kept token."""
    engine = random_engine(config)
    queries = [Query(history, explain=True) for history in history_batch(LENGTHS)]

    together = engine.recommend(queries)
    alone = [engine.recommend([query])[0] for query in queries]

    for one, other in zip(alone, together, strict=True):
        items, scores = items_and_scores(one)
        assert items == items_and_scores(other)[0]
        np.testing.assert_allclose(scores, items_and_scores(other)[1], rtol=1e-5, atol=1e-5)
        assert one.kept_history == other.kept_history


@BOTH
def test_ratio_one_is_no_pruning_bit_for_bit(config: Config) -> None:
    """A pruned model asked for ratio 1 answers like the same weights without SAP, exactly."""
    pruned = random_engine(config)
    plain = random_engine(type(config).model_validate(config.model_dump() | {"pruning": None}))
    histories = history_batch(LENGTHS)

    found = pruned.recommend([Query(history, retention_ratio=1.0) for history in histories])
    expected = plain.recommend([Query(history) for history in histories])

    assert [items_and_scores(a) for a in found] == [items_and_scores(a) for a in expected]


@BOTH
@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_a_lower_ratio_keeps_fewer_tokens(config: Config, ratio: float) -> None:
    """The answer says how many tokens went in and how many SAP kept."""
    answer = random_engine(config).recommend([Query(list(range(12)), retention_ratio=ratio)])[0]

    assert (answer.tokens_in, answer.tokens_kept) == (36, int(36 * ratio))


@BOTH
@pytest.mark.parametrize("seed", range(6))
def test_exact_decoding_finds_the_best_of_the_whole_catalog(config: Config, seed: int) -> None:
    """A beam of one, asked for exact answers, finds what exhaustive search finds."""
    engine = random_engine(config, seed=seed)
    histories = history_batch(LENGTHS, seed)

    exact = engine.recommend([Query(h, limit=3, beam_width=1, decode="exact") for h in histories])
    everything = engine.recommend([Query(h, limit=3, beam_width=1000) for h in histories])

    for one, other in zip(exact, everything, strict=True):
        items, scores = items_and_scores(one)
        assert items == items_and_scores(other)[0]
        np.testing.assert_allclose(scores, items_and_scores(other)[1], rtol=1e-5, atol=1e-5)


def test_a_narrow_beam_misses_what_exact_decoding_finds() -> None:
    """The two differ for some history; otherwise the test above would prove nothing."""
    engine = random_engine()
    histories = history_batch([3] * 30)

    narrow = engine.recommend([Query(h, limit=3, beam_width=1) for h in histories])
    exact = engine.recommend([Query(h, limit=3, beam_width=1, decode="exact") for h in histories])

    assert any(a.items != b.items for a, b in zip(narrow, exact, strict=True))


def test_seen_items_never_come_back() -> None:
    """With exclude_seen the whole given history is closed, also what the model's window cuts."""
    engine = random_engine()
    history = list(range(30))

    answer = engine.recommend([Query(history, limit=40)])[0]

    assert sorted(items_and_scores(answer)[0]) == list(range(30, 40))


def test_seen_items_may_come_back_when_asked() -> None:
    """Without exclude_seen the whole catalog can be found."""
    answer = random_engine().recommend([Query([0], limit=40, exclude_seen=False)])[0]

    assert sorted(items_and_scores(answer)[0]) == list(range(40))


def test_fewer_legal_items_than_asked_give_a_short_answer() -> None:
    """What exists is returned, once, and nothing else."""
    codes = np.array([[0, 0], [0, 1], [1, 0]], dtype=np.int32)
    table = SidTable(codes, (2, 2), np.zeros(3, dtype=np.int64))
    engine = random_engine(tiny_config(codebook_sizes=(2, 2)), table)

    answer = engine.recommend([Query([0], limit=10)])[0]

    assert sorted(items_and_scores(answer)[0]) == [1, 2]


def test_items_that_share_a_semantic_id_come_most_popular_first() -> None:
    """A bucket is opened in its declared order, at one score, and cut at the limit."""
    codes = np.array([[0], [1], [1], [1]], dtype=np.int32)
    table = SidTable(codes, (2,), np.array([0, 5, 9, 7]))
    engine = random_engine(tiny_config(codebook_sizes=(2,)), table)

    items, scores = items_and_scores(engine.recommend([Query([0], limit=2)])[0])

    assert items == [2, 3]
    assert len(set(scores)) == 1


@BOTH
def test_an_explanation_counts_the_kept_tokens_of_each_item(config: Config) -> None:
    """Kept tokens add up, positions count in the history as given, log-probabilities add up."""
    engine = random_engine(config)
    history = history_batch([20])[0]

    answer = engine.recommend([Query(history, explain=True)])[0]

    assert answer.kept_history is not None
    positions = [position for position, _ in answer.kept_history]
    assert sum(count for _, count in answer.kept_history) == answer.tokens_kept == 18
    assert positions == sorted(positions)
    assert min(positions) >= 20 - 12
    assert answer.kept_history[-1] == (19, 3)
    for item in answer.items:
        assert item.level_log_probs is not None
        assert sum(item.level_log_probs) == pytest.approx(item.score, abs=1e-5)


def test_without_explain_nothing_is_explained() -> None:
    """Explanations are paid for by those who ask."""
    answer = random_engine().recommend([Query([1, 2])])[0]

    assert answer.kept_history is None
    assert all(item.level_log_probs is None for item in answer.items)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query([]), "at least one item"),
        (Query([1], retention_ratio=0.123), "retention ratio 0.123 was not validated"),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(query: Query, message: str) -> None:
    """The error says what is wrong with it."""
    with pytest.raises(ModelError, match=message):
        random_engine().recommend([query])


@pytest.mark.parametrize(
    ("asked", "meant"), [(None, 0.5), (0.5, 0.5), (0.502, 0.5), (1, 1.0), (0.33, None)]
)
def test_a_rounded_ratio_means_the_validated_one(asked: float | None, meant: float | None) -> None:
    """People write 0.33 for a third; anything else must match."""
    assert random_engine().validated_ratio(asked) == meant


def test_popular_items_skip_the_excluded_ones() -> None:
    """The prior for cold users: by training popularity, then catalog order."""
    engine = random_engine()
    order = sorted(range(40), key=lambda item: (-engine.catalog.popularity[item], item))

    query = Query([], limit=3, deny=(order[0], order[2]))

    assert engine.popular(query) == [order[1], order[3], order[4]]
    assert sorted(engine.popular(Query([], limit=100))) == list(range(40))


@pytest.mark.parametrize("allow", [None, (3, 9, 12, 30, 31, 17)])
@pytest.mark.parametrize("where", [None, "brand = 'a'", "year = 1991"])
def test_popular_items_keep_the_rules(allow: tuple[int, ...] | None, where: str | None) -> None:
    """Filter, lists and history, against trying every item in order of popularity."""
    engine = random_engine()
    rows = engine.catalog.frame.rows(named=True)
    order = sorted(range(40), key=lambda item: (-rows[item]["popularity"], item))
    matching = {
        None: set(order),
        "brand = 'a'": {item for item in order if rows[item]["brand"] == "a"},
        "year = 1991": {item for item in order if rows[item]["year"] == 1991},
    }
    legal = matching[where] - {9, 17}
    legal &= set(range(40) if allow is None else allow)

    query = Query([9], limit=40, where=where, allow=allow, deny=(17,))
    found = engine.popular(query)
    engine.inventory.min_listed = engine.inventory.min_uses = 1  # by lists made for all items
    assert engine.popular(query) == found

    assert found == [item for item in order if item in legal]


def test_a_rehearsal_asks_every_length_at_every_ratio_and_the_largest_batch() -> None:
    """Each shape is computed before the first user comes, and timed."""
    asked: list[Query] = []
    sizes: set[int] = set()

    class Recorder(Engine):
        """Writes down what it is asked."""

        def recommend(self, queries: Sequence[Query]) -> list[Answer]:
            """Remember the queries, then answer them."""
            asked.extend(queries)
            sizes.add(len(queries))
            return super().recommend(queries)

    engine = Recorder.from_bundle(random_bundle())
    timings = engine.rehearse(max_rows=16, max_tokens=300)

    lengths = {1, 2, 3, 4, 6, 8, 12}
    assert {len(query.history) for query in asked} == lengths
    assert {query.retention_ratio for query in asked} == {0.25, 0.5, 1.0}
    assert max(sizes) == 16
    assert {timing.rows for timing in timings if timing.shape.num_items == 12} == {1, 2, 8}
    assert {engine.shape(query) for query in asked} == {timing.shape for timing in timings}
    assert all(timing.seconds > 0 for timing in timings)


def test_bfloat16_answers_with_float32_scores() -> None:
    """The dtype is a setting; scores stay finite and close to float32's."""
    bundle = random_bundle()
    history = history_batch([8])[0]

    exact = Engine.from_bundle(bundle).recommend([Query(history, limit=40, exclude_seen=False)])[0]
    rough = Engine.from_bundle(bundle, dtype="bfloat16").recommend(
        [Query(history, limit=40, exclude_seen=False)]
    )[0]

    expected = dict(zip(*items_and_scores(exact), strict=True))
    for item, score in zip(*items_and_scores(rough), strict=True):
        assert score == pytest.approx(expected[item], abs=0.3)


def test_the_bundles_own_ratio_is_always_allowed() -> None:
    """A request without a ratio uses the one the weights were trained with."""
    engine = random_engine()

    assert random_manifest().model.default_retention_ratio in engine.retention_ratios
    assert engine.retention_ratios == (0.25, 0.5, 1.0)
    assert torch.get_num_threads() >= 1
    assert random_table().num_items == len(engine.catalog)
