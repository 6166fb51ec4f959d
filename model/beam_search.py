"""Batched beam search over the trie of semantic IDs that exist.

Only legal children are scored and ranked (masked before top-k), so nothing illegal can be found,
by any weights. History keys and values are shared by all beams; what a beam decoded itself is
looked up through its ancestors. Nothing in the loop waits for the device.
Shape words: batch, beams, children, levels, blocks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.backbone import Backbone, Prompt
from model.trie import Exclusions, SidTrie


@dataclass(frozen=True)
class Beams:
    """What a search found, best first; ties in score are broken by the smaller semantic ID.

    Args:
        leaves: (batch, beams) int64 leaf numbers; meaningless where the score is -inf.
        scores: (batch, beams) float32, sum over levels of log softmax over the whole codebook;
            -inf where fewer legal leaves than beams exist.
        level_log_probs: (batch, beams, levels) float32, the terms of that sum.
        lost: (batch,) float32, the best score of any legal prefix that a level dropped; -inf if
            none was. Leaves that were not found score at most this much.
    """

    leaves: Tensor
    scores: Tensor
    level_log_probs: Tensor
    lost: Tensor


@dataclass(frozen=True)
class Tail:
    """What the beams decoded so far, stored once per level and found by ancestry.

    Args:
        remembered: per level, (blocks, 2, batch, beams of that level, heads, d_kv); None at level 0
            of a decoder-only model, whose prompt remembers for it.
        ancestors: (batch, beams, levels so far) int64: each beam's ancestor at each level.
        log_probs: (batch, beams, levels so far) float32.
    """

    remembered: tuple[Tensor | None, ...]
    ancestors: Tensor
    log_probs: Tensor

    def gather(self) -> Tensor | None:
        """(blocks, 2, batch, beams, levels so far, heads, d_kv) of the current beams."""
        rows = torch.arange(self.ancestors.shape[0], device=self.ancestors.device)[:, None]
        levels = [
            states[:, :, rows, self.ancestors[..., level]]
            for level, states in enumerate(self.remembered)
            if states is not None
        ]
        return torch.stack(levels, dim=4) if levels else None


def beam_search(
    model: Backbone,
    prompt: Prompt,
    trie: SidTrie,
    beam_width: int,
    exclusions: Exclusions | None = None,
) -> Beams:
    """Find each row's likeliest leaves.

    With a beam as wide as the trie this is exhaustive search.

    Args:
        model: in eval mode.
        prompt: the histories, from `model.prompt`.
        trie: the leaves that exist.
        beam_width: prefixes kept after every level; also the most leaves that can be found.
        exclusions: nodes that each row must not enter.
    """
    states, remembered = model.start(prompt)
    batch = states.shape[0]
    nodes = torch.zeros(batch, 1, dtype=torch.int64, device=states.device)
    scores = torch.zeros(batch, 1, device=states.device)
    lost = torch.full((batch,), -torch.inf, device=states.device)
    tail: Tail | None = None
    for level in range(trie.num_levels):
        if tail is not None:
            codes = trie.codes[level - 1][nodes].long()
            states, now = model.step(prompt, tail.gather(), codes, level)
            tail = Tail((*tail.remembered, now), tail.ancestors, tail.log_probs)
        log_probs = model.logits(states, level).float().log_softmax(dim=-1)
        candidates = _expand(trie, level, nodes, scores, log_probs, exclusions)
        nodes, scores, parents, terms, dropped = _best(
            candidates, min(beam_width, len(trie.codes[level]))
        )
        lost = lost.maximum(dropped)
        tail = _follow(tail, remembered, parents, terms)
    assert tail is not None
    return Beams(nodes, scores, tail.log_probs, lost)


@dataclass(frozen=True)
class _Candidates:
    """Children of all beams; each (batch, beams, children); illegal ones total -inf."""

    nodes: Tensor
    totals: Tensor
    terms: Tensor


def _expand(
    trie: SidTrie,
    level: int,
    parents: Tensor,
    scores: Tensor,
    log_probs: Tensor,
    exclusions: Exclusions | None,
) -> _Candidates:
    """Score the legal children of every beam."""
    children, legal = trie.children(level, parents)
    if exclusions is not None:
        excluded = exclusions.contain(level, children)
        if excluded is not None:
            legal = legal & ~excluded
    terms = log_probs.gather(2, trie.codes[level][children].long())
    totals = (scores[..., None] + terms).masked_fill(~legal, -torch.inf)
    return _Candidates(children, totals, terms)


def _best(
    candidates: _Candidates, beam_width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Keep the best candidates.

    Returns:
        nodes, scores, the beam each came from, and its own log-probability, all (batch, beams);
        and (batch,) the best score that was not kept.
    """
    keys = ranking_keys(candidates.totals, candidates.nodes).flatten(1)
    width = min(beam_width, keys.shape[1])
    best = keys.topk(min(width + 1, keys.shape[1]), dim=1).indices
    nodes, totals, terms = (
        values.flatten(1).gather(1, best)
        for values in (candidates.nodes, candidates.totals, candidates.terms)
    )
    dropped = torch.full_like(totals[:, 0], -torch.inf)
    if best.shape[1] > width:
        dropped = totals[:, width]
    parents = best[:, :width] // candidates.nodes.shape[2]
    return nodes[:, :width], totals[:, :width], parents, terms[:, :width], dropped


def ranking_keys(scores: Tensor, nodes: Tensor) -> Tensor:
    """One int64 per candidate that sorts by score, then by smaller node.

    A float32's bits, with the magnitude bits of negative numbers flipped, sort like the number
    itself; they become the upper half, the node counted backwards the lower half. Keys of distinct
    nodes differ, so top-k has one right answer on every device.
    """
    bits = scores.float().view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (0x7FFFFFFF - nodes)


def _follow(tail: Tail | None, first: Tensor | None, parents: Tensor, terms: Tensor) -> Tail:
    """Record where the new beams came from."""
    own = parents[..., None]
    if tail is None:
        return Tail((first,), own, terms[..., None])
    inherited = own.expand(-1, -1, tail.ancestors.shape[2])
    ancestors = torch.cat((tail.ancestors.gather(1, inherited), own), dim=2)
    log_probs = torch.cat((tail.log_probs.gather(1, inherited), terms[..., None]), dim=2)
    return Tail(tail.remembered, ancestors, log_probs)
