"""Beam search against scoring every semantic ID one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ancestry import Ancestry
from model.backbone import Backbone
from model.beam_search import Beams, beam_search
from model.candidates import ranking_keys
from model.config import ModelConfig
from model.rules import NodeSets, Rules
from model.semantic_id import SidTable
from model.trie import SidTrie
from tests.factories import random_model, tiny_config, tiny_qwen
from tests.strategies import sid_tables

BACKBONES = st.sampled_from(["t5", "qwen"])


def small_model(table: SidTable, seed: int, backbone: str = "t5") -> Backbone:
    """A random model for the table's codebooks."""
    changed = tiny_config if backbone == "t5" else tiny_qwen
    return random_model(changed(codebook_sizes=table.codebook_sizes, max_history_items=3), seed)


def histories(table: SidTable, config: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Two short histories as tokens and mask."""
    rows = [[0], [table.num_items - 1, 0, table.num_items // 2]]
    tokens, mask = table.pack(rows, separator=config.separator, num_items=3)
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def exhaustive(model: Backbone, table: SidTable, row: int) -> list[float]:
    """Every leaf's score for one history, teacher-forced, one leaf at a time."""
    tokens, mask = histories(table, model.config)
    prompt = model.prompt(tokens[row : row + 1], mask[row : row + 1])
    scores = []
    for sid in torch.from_numpy(table.sids).long():
        states = model.decode(prompt, sid[None])
        logs = [model.logits(states[0, m], m).log_softmax(-1)[c] for m, c in enumerate(sid)]
        scores.append(float(sum(logs)))
    return scores


def assert_is_best_of(beams: Beams, row: int, expected: dict[int, float]) -> None:
    """The beams of a row are the expected leaves, best first, with their scores."""
    scores = beams.scores[row]
    real = scores > -torch.inf
    found = dict(zip(beams.leaves[row][real].tolist(), scores[real].tolist(), strict=True))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert sorted(found, key=lambda leaf: (-found[leaf], leaf)) == list(found)


@settings(max_examples=40)
@given(table=sid_tables(), seed=st.integers(0, 2**16), backbone=BACKBONES)
@torch.inference_mode()
def test_a_beam_as_wide_as_the_catalog_is_exhaustive_search(
    table: SidTable, seed: int, backbone: str
) -> None:
    """With room for every leaf nothing is lost: the same leaves, the same scores, in order."""
    model = small_model(table, seed, backbone)
    trie = SidTrie.from_sids(table.sids)

    beams = beam_search(model, model.prompt(*histories(table, model.config)), trie, 1000)

    for row in range(2):
        assert_is_best_of(beams, row, dict(enumerate(exhaustive(model, table, row))))


@settings(max_examples=30)
@given(table=sid_tables(max_levels=4), seed=st.integers(0, 2**16), data=st.data())
@torch.inference_mode()
def test_excluded_leaves_are_never_entered(table: SidTable, seed: int, data: st.DataObject) -> None:
    """Each row finds exactly its own legal leaves, fewer than the beam if there are fewer."""
    model = small_model(table, seed)
    trie = SidTrie.from_sids(table.sids)
    leaves = st.sets(st.sampled_from(range(trie.num_leaves)))
    dead = [sorted(data.draw(leaves)) for _ in range(2)]
    ancestry = Ancestry(trie)
    rows = [ancestry.dead_nodes(np.array(row, dtype=np.int64)) for row in dead]

    beams = beam_search(
        model,
        model.prompt(*histories(table, model.config)),
        trie,
        1000,
        Rules(excluded=NodeSets.from_rows(rows, table.num_levels)),
    )

    for row in range(2):
        scores = enumerate(exhaustive(model, table, row))
        assert_is_best_of(beams, row, {leaf: s for leaf, s in scores if leaf not in dead[row]})


@settings(max_examples=40)
@given(table=sid_tables(), seed=st.integers(0, 2**16), width=st.integers(1, 5), backbone=BACKBONES)
@torch.inference_mode()
def test_no_leaf_outside_the_beam_scores_more_than_what_was_lost(
    table: SidTable, seed: int, width: int, backbone: str
) -> None:
    """`lost` bounds every leaf that a narrow beam did not find: the proof of exact decoding."""
    model = small_model(table, seed, backbone)
    trie = SidTrie.from_sids(table.sids)

    beams = beam_search(model, model.prompt(*histories(table, model.config)), trie, width)

    for row in range(2):
        found = set(beams.leaves[row].tolist())
        missed = [s for leaf, s in enumerate(exhaustive(model, table, row)) if leaf not in found]
        assert max(missed, default=-torch.inf) <= beams.lost[row].item() + 1e-4


@settings(max_examples=60)
@given(
    table=sid_tables(),
    seed=st.integers(0, 2**16),
    width=st.integers(1, 6),
    backbone=BACKBONES,
    host_reads=st.booleans(),
)
@torch.inference_mode()
def test_reading_ahead_finds_what_a_pass_per_level_finds(
    table: SidTable, seed: int, width: int, backbone: str, host_reads: bool
) -> None:
    """All leaves below the beams at once, from level 1 on: the same leaves, terms and losses."""
    model = small_model(table, seed, backbone)
    trie = SidTrie.from_sids(table.sids)
    prompt = model.prompt(*histories(table, model.config))

    stepped = beam_search(model, prompt, trie, width, step_cost=-1)
    ahead = beam_search(model, prompt, trie, width, step_cost=10**6, host_reads=host_reads)

    real = stepped.scores > -torch.inf
    assert ahead.leaves[real].tolist() == stepped.leaves[real].tolist()
    for found, expected in (
        (ahead.scores, stepped.scores),
        (ahead.level_log_probs[real], stepped.level_log_probs[real]),
        (ahead.lost, stepped.lost),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_ties_fall_to_the_smaller_semantic_id() -> None:
    """A model without an opinion ranks the catalog in ascending order of semantic IDs."""
    codes = np.array([[1, 1], [0, 2], [1, 0], [0, 0]], dtype=np.int32)
    table = SidTable(codes, (2, 3), np.zeros(4, dtype=np.int64))
    model = small_model(table, seed=0)
    for output in model.outputs.parameters():
        output.zero_()

    beams = beam_search(
        model, model.prompt(*histories(table, model.config)), SidTrie.from_sids(table.sids), 3
    )

    assert beams.leaves.tolist() == [[0, 1, 2], [0, 1, 2]]


@torch.inference_mode()
def test_level_log_probs_add_up_to_the_score() -> None:
    """The explanation of a score is exact."""
    table = SidTable(
        np.array([[0, 1, 2], [1, 1, 0], [1, 0, 0]], dtype=np.int32), (2, 2, 3), np.zeros(3, int)
    )
    model = small_model(table, seed=3)

    beams = beam_search(
        model, model.prompt(*histories(table, model.config)), SidTrie.from_sids(table.sids), 2
    )

    torch.testing.assert_close(beams.level_log_probs.sum(-1), beams.scores)


@given(
    scores=st.lists(
        st.floats(width=32, allow_nan=False, max_value=0) | st.just(-float("inf")), min_size=2
    )
)
def test_ranking_keys_sort_like_score_then_node(scores: list[float]) -> None:
    """Descending keys are descending scores; equal scores go to the smaller node."""
    clean = [score + 0.0 for score in scores]  # -0.0 and 0.0 are the same score
    keys = ranking_keys(torch.tensor(clean), torch.arange(len(clean)))

    order = keys.argsort(descending=True).tolist()

    rounded = torch.tensor(clean).tolist()
    assert order == sorted(range(len(clean)), key=lambda node: (-rounded[node], node))
