"""Compiled code chooses the beams that torch chooses, under any rules but quotas."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.candidates import Frontier, best, candidates_of
from model.kernels.library import find
from model.kernels.selection import Selected, select
from model.rules import NodeNumbers, NodeSets, Rules, Share
from model.trie import SidTrie

KERNELS = find()
needs_kernels = pytest.mark.skipif(KERNELS is None, reason="nothing is compiled: no C compiler?")
BATCH, CODES = 3, 9


@dataclass(frozen=True)
class Case:
    """A level's beams, what a model says of them, and what they may enter."""

    trie: SidTrie
    frontier: Frontier
    logits: Tensor
    rules: Rules


def some(random: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """About a third of so many nodes, ascending."""
    return np.flatnonzero(random.random(count) < 1 / 3).astype(np.int64)


def drawn_rules(random: np.random.Generator, names: set[str], num_nodes: int) -> Rules:
    """Rules of these names for level 1; each row has its own."""
    sets = [[some(random, num_nodes)] * 2 for _ in range(BATCH)]
    marks = torch.from_numpy(random.random(num_nodes) < 0.7)
    numbers = torch.from_numpy(random.normal(size=num_nodes).astype(np.float32))
    few = [
        [(nodes, random.normal(size=len(nodes)).astype(np.float32)) for nodes in row]
        for row in sets
    ]
    two = torch.tensor([0, 2])
    nodes = NodeSets.from_rows(sets, 2)
    return Rules(
        excluded=nodes if "excluded" in names else None,
        allowed=nodes if "allowed" in names else None,
        bound=torch.tensor([[True], [False], [True]]) if "allowed" in names else None,
        alive=(Share(two, (marks, marks)), Share(None, (~marks, marks)))
        if "alive" in names
        else (),
        biases=(Share(two, (numbers, numbers)),) if "biases" in names else (),
        few_biases=NodeNumbers.from_rows(few, "cpu") if "few" in names else None,
    )


def drawn_case(seed: int, names: set[str], beams: int) -> Case:
    """Beams at level 1 of a random trie; codes of a beam often score alike, so that ties count."""
    random = np.random.default_rng(seed)
    sids = np.unique(random.integers(0, CODES, (60, 2)), axis=0).astype(np.int32)
    trie = SidTrie.from_sids(sids)
    tops = len(trie.codes[0])
    nodes = torch.stack([torch.from_numpy(random.permutation(tops)[:beams]) for _ in range(BATCH)])
    scores = torch.from_numpy(random.normal(size=nodes.shape).astype(np.float32))
    scores[random.random(nodes.shape) < 0.2] = -torch.inf
    logits = torch.from_numpy(random.integers(0, 3, (*nodes.shape, CODES)).astype(np.float32))
    rules = drawn_rules(random, names, trie.num_leaves)
    return Case(trie, Frontier(nodes, scores, scores, None), logits, rules)


def by_torch(case: Case, width: int) -> Selected:
    """The same by candidates.py."""
    frontier, trie = case.frontier, case.trie
    children = trie.children(1, frontier.nodes, frontier.legal)
    log_probs = case.logits.log_softmax(dim=-1).flatten(1)
    codes = trie.codes_of(1, children.nodes)
    terms = log_probs.gather(1, children.owners * CODES + codes)
    candidates = candidates_of(frontier, children, terms, 1, case.rules)
    chosen, owners, terms, lost = best(candidates, width, 1, None, in_order=True)
    return Selected(chosen.nodes, owners, chosen.scores, chosen.ranks, terms, lost)


@needs_kernels
@given(
    seed=st.integers(0, 2**16),
    names=st.sets(st.sampled_from(["excluded", "allowed", "alive", "biases", "few"])),
    beams=st.integers(1, 9),
    width=st.integers(1, 40),
)
def test_it_chooses_what_torch_chooses(seed: int, names: set[str], beams: int, width: int) -> None:
    """The same nodes in the same order, ties included, and the best of what was dropped."""
    assert KERNELS is not None
    case = drawn_case(seed, names, beams)
    beam = (case.frontier.nodes, case.frontier.scores, case.logits)

    found = select(KERNELS, case.trie, 1, *beam, case.rules, width)

    expected = by_torch(case, width)
    kept = found.scores.shape[1]
    assert kept == max(1, int((expected.scores > -torch.inf).sum(dim=1).max()))
    real = found.scores > -torch.inf
    assert real.tolist() == (expected.scores[:, :kept] > -torch.inf).tolist()
    for name in ("nodes", "owners"):
        one, other = getattr(found, name), getattr(expected, name)[:, :kept]
        assert one[real].tolist() == other[real].tolist()
    for name in ("scores", "ranks", "terms"):
        one, other = getattr(found, name), getattr(expected, name)[:, :kept]
        torch.testing.assert_close(one[real], other[real], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.lost, expected.lost, rtol=1e-6, atol=1e-6)
