"""The prompt cache: the same prompts, fewer readings, bounded memory."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.backbone import Backbone, Prompt
from model.config import QwenConfig, T5Config
from model.prompt_cache import CacheStats, PromptCache, num_bytes
from model.semantic_id import SidTable
from tests.factories import (
    TINY,
    TINY_QWEN,
    history_batch,
    random_model,
    random_table,
    tiny_qwen,
)
from tests.model.watchers import VARIANTS, SyncWatcher

ENOUGH = 1 << 20
ITEMS = 12

Config = T5Config | QwenConfig
Read = Callable[[PromptCache, Sequence[Sequence[int]], float], Prompt]

BOTH = pytest.mark.parametrize("config", [TINY, TINY_QWEN], ids=["t5", "qwen"])
DETERMINISTIC = {name: config for name, config in VARIANTS.items() if name != "t5-random"} | {
    "qwen-prefix": tiny_qwen(text_vocabulary=9, prefix_tokens=(7, 8))
}


def reader(config: Config) -> tuple[Backbone, Read]:
    """A model, and how a cache reads histories for it, padded to 12 items."""
    model, table = random_model(config), random_table()

    @torch.inference_mode()
    def read(prompts: PromptCache, histories: Sequence[Sequence[int]], ratio: float) -> Prompt:
        tokens, mask = table.pack(histories, separator=config.separator, num_items=ITEMS)
        return prompts.prompt(model, tokens, mask, ratio)

    return model, read


def rows_read(model: Backbone) -> list[int]:
    """How many rows each reading of the model has: a list that grows. One token is no history."""
    seen: list[int] = []

    def note(_: nn.Module, inputs: tuple[Tensor]) -> None:
        tokens = inputs[0]
        seen.extend([len(tokens)] * (tokens.shape[1] > 1))

    model.embedding.register_forward_pre_hook(note)
    return seen


def assert_equal_prompts(model: Backbone, found: Prompt, expected: Prompt) -> None:
    """The same but for padding's keys and values, which a bias hides, and for rounding."""
    torch.testing.assert_close(model.start(found), model.start(expected), rtol=1e-5, atol=1e-5)
    for states, others, bias, other in zip(
        found.memory, expected.memory, found.biases, expected.biases, strict=True
    ):
        assert torch.equal(bias, other)
        real = (bias == 0)[None, :, 0, :, :, None]
        torch.testing.assert_close(states * real, others * real, rtol=1e-5, atol=1e-5)
    assert (found.cut is None) == (expected.cut is None)
    if found.cut is not None and expected.cut is not None:
        assert torch.equal(found.cut.indices, expected.cut.indices)
        assert torch.equal(found.cut.mask, expected.cut.mask)
    torch.testing.assert_close(found.last, expected.last, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", DETERMINISTIC.values(), ids=DETERMINISTIC)
@torch.inference_mode()
def test_kept_and_new_rows_make_the_batch_that_was_asked_for(config: Config) -> None:
    """In its order, with the biases, kept tokens and positions of reading it at once."""
    model, read = reader(config)
    users = history_batch([12, 1, 7, 3])
    prompts = PromptCache(ENOUGH, "v1")

    for ratio in (1.0, 0.5):
        read(prompts, [users[3], users[0]], ratio)
        found = read(prompts, users, ratio)
        assert_equal_prompts(model, found, read(PromptCache(0, "v1"), users, ratio))


@BOTH
def test_only_the_rows_that_are_missing_are_read(config: Config) -> None:
    """Two of four are known: two are read, together; then none."""
    model, read = reader(config)
    users = history_batch([12, 1, 7, 3])
    prompts = PromptCache(ENOUGH, "v1")
    seen = rows_read(model)

    for batch in (users[:2], users, users):
        read(prompts, batch, 0.5)

    assert seen == [2, 2]
    assert (prompts.stats().hits, prompts.stats().misses) == (6, 4)


def test_equal_histories_in_a_batch_are_read_once() -> None:
    """Also items of one semantic ID are equal to the model, and so are histories of them."""
    codes = np.array([[0, 0], [0, 1], [0, 1]], dtype=np.int32)
    table = SidTable(codes, (7, 5), np.zeros(3, dtype=np.int64))
    model = random_model(TINY.model_copy(update={"codebook_sizes": (7, 5)}))
    tokens, mask = table.pack([[0, 1], [2, 0], [0, 2]], separator=False, num_items=2)
    seen = rows_read(model)

    prompt = PromptCache(ENOUGH, "v1").prompt(model, tokens, mask, 1.0)

    assert seen == [2]
    assert torch.equal(prompt.memory[0][:, 0], prompt.memory[0][:, 2])


@pytest.mark.parametrize(("version", "ratio"), [("v2", 0.5), ("v1", 0.25)])
def test_another_version_or_ratio_reads_anew(version: str, ratio: float) -> None:
    """What a model read says nothing about another one, or about another share of tokens."""
    model, read = reader(TINY)
    users = history_batch([3, 5])
    prompts = PromptCache(ENOUGH, "v1")
    read(prompts, users, 0.5)
    seen = rows_read(model)

    prompts.version = version
    read(prompts, users, ratio)

    assert seen == [2]


def test_who_was_not_asked_for_longest_goes_first() -> None:
    """Room for two: the third takes the place of the one that was used least recently."""
    model, read = reader(TINY)
    first, second, third = history_batch([5, 5, 5])
    read(one := PromptCache(ENOUGH, "v1"), [first], 1.0)
    prompts = PromptCache(2 * one.stats().num_bytes, "v1")

    for user in (first, second, first, third):
        read(prompts, [user], 1.0)
    seen = rows_read(model)
    for user in (first, third, second):
        read(prompts, [user], 1.0)

    assert seen == [1]
    stats = prompts.stats()
    assert (stats.hits, stats.misses, stats.evictions, stats.rows) == (3, 4, 2, 2)
    assert stats.num_bytes == prompts.max_bytes


def test_a_row_larger_than_the_cache_is_not_kept() -> None:
    """It is answered all the same, and drives nobody out."""
    _, read = reader(TINY)
    small, large = history_batch([1, 12])
    read(one := PromptCache(ENOUGH, "v1"), [small], 1.0)
    prompts = PromptCache(one.stats().num_bytes, "v1")

    for user in (small, large, small):
        read(prompts, [user], 1.0)

    stats = prompts.stats()
    assert (stats.hits, stats.misses, stats.evictions, stats.rows) == (1, 2, 0, 1)


def test_a_cache_of_no_bytes_is_off() -> None:
    """Every row is read, and none is counted."""
    model, read = reader(TINY)
    users = history_batch([3, 3])
    prompts = PromptCache(0, "v1")
    seen = rows_read(model)

    read(prompts, users, 0.5)
    read(prompts, users, 0.5)

    assert seen == [2, 2]
    assert prompts.stats() == CacheStats(hits=0, misses=0, evictions=0, rows=0, num_bytes=0)


@pytest.mark.parametrize(
    ("config", "tokens", "biases", "rest"),
    [(TINY, 6 + 6, 18, 16 + 2 * 2 * 2 * 16), (TINY_QWEN, 12 + 12 + 6, 36 + 18, 16 + 2)],
    ids=["t5: and the first step", "qwen: and the last state, and the next position"],
)
def test_padding_and_batch_mates_take_no_room(
    config: Config, tokens: int, biases: int, rest: int
) -> None:
    """A history of 4 items beside one of 12 holds the keys and values of its own tokens.

    That is 12 before the cut and 6 after it; biases and the cut are as long as the batch.
    """
    _, read = reader(config)
    short, long = history_batch([4, 12])
    prompts, pair = PromptCache(ENOUGH, "v1"), PromptCache(ENOUGH, "v1")

    read(prompts, [long], 0.5)
    read(pair, [long, short], 0.5)

    size = pair.stats().num_bytes - prompts.stats().num_bytes
    assert size == 4 * (tokens * 2 * 2 * 16 + biases + rest) + 18 * (8 + 1)


@BOTH
def test_pruned_histories_take_less_room(config: Config) -> None:
    """A quarter of the tokens after the cut: a quarter of the bytes where all blocks follow it."""
    _, read = reader(config)
    caches = {ratio: PromptCache(ENOUGH, "v1") for ratio in (0.25, 0.5, 1.0)}

    for ratio, prompts in caches.items():
        read(prompts, history_batch([12]), ratio)

    sizes = [prompts.stats().num_bytes for prompts in caches.values()]
    assert sizes == sorted(set(sizes))


def test_a_shared_storage_counts_once() -> None:
    """Blocks may share one bias."""
    bias = torch.zeros(1, 1, 1, 10)

    prompt = Prompt((torch.zeros(2, 1, 1, 10, 2),) * 2, (bias, bias), None)

    assert num_bytes(prompt) == 4 * (40 + 10)


@BOTH
def test_the_cache_never_waits_for_the_device(config: Config) -> None:
    """Neither reading, nor splitting, nor joining what was kept with what was not."""
    _, read = reader(config)
    users = history_batch([12, 1, 7, 3])
    prompts = PromptCache(ENOUGH, "v1")

    with SyncWatcher() as watcher:
        for batch in (users[1:3], users):
            read(prompts, batch, 0.5)

    assert watcher.syncs == []
