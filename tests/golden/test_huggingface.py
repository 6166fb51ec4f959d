"""A Qwen started from a checkpoint that transformers wrote computes what transformers computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.qwen import Qwen
from tests.checkpoints import TEXT, start, write_checkpoint
from tests.decoding import step_by_step
from tests.factories import history_batch, random_table

PREFIX = (3, 41, 3, 17)


def extended(reference: Any, ours: Qwen) -> Any:
    """Transformers' model with our tokens' rows appended to its own."""
    reference.resize_token_embeddings(TEXT + ours.embedding.num_embeddings, mean_resizing=False)
    rows = reference.get_input_embeddings().weight.data[TEXT:]
    rows.copy_(ours.embedding.weight)
    if not ours.config.tie_outputs:
        head = reference.get_output_embeddings().weight.data[TEXT:]
        for output, (first, end) in zip(ours.outputs, ours.token_ranges, strict=True):
            head[first:end] = output.get_parameter("weight")
    return reference


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Padded history tokens, their mask, and target codes."""
    table = random_table()
    tokens, mask = table.pack(history_batch([12, 7, 1]), separator=False, num_items=12)
    return torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(table.codes[:3])


def expected_scores(reference: Any, ours: Qwen) -> list[Tensor]:
    """Transformers' scores of each level, one unpadded row with its prefix at a time."""
    tokens, mask, codes = batch()
    prefix = torch.tensor(ours.config.prefix_tokens, dtype=torch.int64)
    rows = []
    for row in range(len(tokens)):
        own = torch.cat((tokens[row][mask[row]], (codes[row] + ours.first_tokens)[:-1]))
        ids = torch.cat((prefix, own + TEXT))
        rows.append(reference(input_ids=ids[None]).logits[0, -3:])
    scores = torch.stack(rows)[..., TEXT:]
    return [scores[:, n, first:end] for n, (first, end) in enumerate(ours.token_ranges)]


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal to float32 rounding."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


VARIANTS = [
    ("qwen2", {"tied": True}, ()),
    ("qwen2", {"tied": False, "shard": "8KB"}, PREFIX),
    ("qwen3", {"tied": True, "shard": "8KB"}, PREFIX),
    ("qwen3", {"tied": False}, ()),
]


@pytest.mark.parametrize(("kind", "how", "prefix"), VARIANTS)
@torch.inference_mode()
def test_a_started_model_computes_what_transformers_computes(
    tmp_path: Path, kind: str, how: dict[str, Any], prefix: tuple[int, ...]
) -> None:
    """The scores of every level's codes agree, with a prefix and without, sharded or not."""
    reference = write_checkpoint(tmp_path, kind, **how)
    tokens, mask, codes = batch()

    ours = start(tmp_path, prefix_tokens=list(prefix))

    assert (tmp_path / "model.safetensors.index.json").exists() is ("shard" in how)
    states = ours.decode(ours.prompt(tokens, mask, ratio=1.0), codes.long())
    for level, expected in enumerate(expected_scores(extended(reference, ours), ours)):
        assert_close(ours.logits(states[:, level], level), expected)


@pytest.mark.parametrize(("kind", "how", "prefix"), VARIANTS)
@torch.inference_mode()
def test_decoding_with_a_cache_computes_what_transformers_computes(
    tmp_path: Path, kind: str, how: dict[str, Any], prefix: tuple[int, ...]
) -> None:
    """One level at a time behind the remembered prefix and history: the same scores."""
    reference = write_checkpoint(tmp_path, kind, **how)
    ours = start(tmp_path, prefix_tokens=list(prefix))
    tokens, mask, codes = batch()
    prompt = ours.prompt(tokens, mask, ratio=1.0)

    states = step_by_step(ours, prompt, codes)

    for level, expected in enumerate(expected_scores(extended(reference, ours), ours)):
        assert_close(ours.logits(states[:, level], level), expected)


@torch.inference_mode()
def test_dense_states_stand_behind_the_prefix(tmp_path: Path) -> None:
    """State (i, m) is what transformers has before level m of item i + 1, the prefix in front."""
    reference = write_checkpoint(tmp_path, "qwen3")
    ours = start(tmp_path, prefix_tokens=list(PREFIX))
    tokens, mask, _ = batch()

    states = ours.dense_states(tokens, mask)

    ids = torch.cat((torch.tensor(PREFIX), tokens[0] + TEXT))
    scores = extended(reference, ours)(input_ids=ids[None]).logits[0, :, TEXT:]
    assert states.shape == (3, 11, 3, 16)
    for item in range(11):
        for level, (first, end) in enumerate(ours.token_ranges):
            place = len(PREFIX) + (item + 1) * 3 + level - 1
            assert_close(ours.logits(states[0, item, level], level), scores[place, first:end])


@torch.inference_mode()
def test_pruning_keeps_the_prefix_and_counts_history_only(tmp_path: Path) -> None:
    """SAP's budget is a share of the history; blocks above the cut hold the prefix as well."""
    write_checkpoint(tmp_path, "qwen3")
    with_prefix = start(tmp_path, prefix_tokens=list(PREFIX))
    without = start(tmp_path)
    tokens, mask, _ = batch()

    prompt = with_prefix.prompt(tokens, mask, ratio=0.5)
    bare = without.prompt(tokens, mask, ratio=0.5)

    assert prompt.cut is not None
    assert bare.cut is not None
    assert [m.shape[3] - n.shape[3] for m, n in zip(prompt.memory, bare.memory, strict=True)] == [
        len(PREFIX)
    ] * 3
    assert torch.equal(prompt.cut.mask, bare.cut.mask)
    assert int(prompt.cut.indices.max()) < tokens.shape[1]
    assert [int(bias.eq(0)[0].sum()) for bias in prompt.biases] == [40, 40, 22]


@torch.inference_mode()
def test_no_row_with_a_prefix_depends_on_its_batch_mates(tmp_path: Path) -> None:
    """A history alone and unpadded: the same kept tokens and the same states."""
    write_checkpoint(tmp_path, "qwen2")
    ours = start(tmp_path, prefix_tokens=list(PREFIX))
    tokens, mask, codes = batch()
    together = ours.prompt(tokens, mask, ratio=0.5)
    states = ours.decode(together, codes.long())

    alone = ours.prompt(tokens[1:2, :21], mask[1:2, :21], ratio=0.5)

    assert together.cut is not None
    assert alone.cut is not None
    kept = together.cut.indices[1][together.cut.mask[1]]
    assert torch.equal(kept, alone.cut.indices[0][alone.cut.mask[0]])
    assert_close(ours.decode(alone, codes[1:2].long())[0], states[1])
