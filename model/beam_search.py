"""Batched beam search over the trie of semantic IDs that exist.

Only legal children are scored and ranked (masked before top-k), so nothing illegal can be found,
by any weights. History keys and values are shared by all beams; what a beam decoded itself is
looked up through its ancestors. Nothing in the loop waits for the device.
Shape words: batch, beams, places (candidates), levels, blocks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.backbone import Backbone, Prompt
from model.candidates import Frontier, best, candidates_of
from model.kernels.selection import select
from model.look_ahead import LookAhead, look_ahead, num_leaves_ahead
from model.rules import NO_RULES, Rules
from model.tail import Tail
from model.trie import SidTrie, Spread


@dataclass(frozen=True)
class Beams:
    """What a search found, best first; ties in rank are broken by the smaller semantic ID.

    Args:
        leaves: (batch, beams) int64 leaf numbers; meaningless where the score is -inf.
        scores: (batch, beams) float32, sum over levels of log softmax over the whole codebook;
            -inf where fewer legal leaves than beams exist.
        level_log_probs: (batch, beams, levels) float32, the terms of that sum.
        lost: (batch,) float32, the best rank (score plus bias) of any legal prefix that a level
            dropped; -inf if none was. Leaves that were not found rank at most this high.
    """

    leaves: Tensor
    scores: Tensor
    level_log_probs: Tensor
    lost: Tensor


def beam_search(
    model: Backbone,
    prompt: Prompt,
    trie: SidTrie,
    beam_width: int,
    rules: Rules = NO_RULES,
    *,
    host_reads: bool = True,
    step_cost: int | None = None,
) -> Beams:
    """Find each row's best leaves; exhaustively, if the beam is as wide as the trie.

    Args:
        model: in eval mode.
        prompt: the histories.
        trie: the leaves that exist.
        beam_width: prefixes kept after every level; also the most leaves that can be found.
        rules: what each row may find.
        host_reads: on a CPU, look at how many leaves the beams have left; shapes depend on it.
        step_cost: see `num_leaves_ahead`; -1 = a pass per level, None = as the model says.
    """
    cost = model.step_cost if step_cost is None else step_cost
    states, remembered = model.start(prompt)
    frontier, ahead = Frontier.root(len(states), states.device, rules.quota), None
    tail = Tail.begin(remembered, frontier.scores, _room(trie, len(states), beam_width))
    lost = torch.full_like(frontier.scores[:, 0], -torch.inf)
    for level in range(trie.num_levels):
        if level and ahead is None:
            if places := num_leaves_ahead(trie, level, frontier, host_reads, cost):
                ahead = look_ahead(model, prompt, trie, tail, frontier, level, places)
            else:
                states, tail = _step(model, prompt, trie, tail, frontier.nodes, level)
        kept = _choose(model, states, trie, frontier, level, ahead, rules, beam_width)
        frontier, parents, terms, dropped = kept
        lost, tail = lost.maximum(dropped), tail.follow(parents, terms)
        ahead = None if ahead is None else ahead.follow(parents)
    return Beams(frontier.nodes, frontier.scores, tail.log_probs, lost)


def _choose(
    model: Backbone,
    states: Tensor,
    trie: SidTrie,
    frontier: Frontier,
    level: int,
    ahead: LookAhead | None,
    rules: Rules,
    beam_width: int,
) -> tuple[Frontier, Tensor, Tensor, Tensor]:
    """The beams of a level; see `best`."""
    if model.kernels is not None and ahead is None and rules.quota is None:
        logits = model.logits(states, level).float()
        kept = select(
            model.kernels, trie, level, frontier.nodes, frontier.scores, logits, rules, beam_width
        )
        chosen = Frontier(kept.nodes, kept.scores, kept.ranks, None)
        return chosen, kept.owners, kept.terms, kept.lost
    children = trie.children(level, frontier.nodes, frontier.legal)
    terms = _terms(model, states, trie, children, level, ahead)
    candidates = candidates_of(frontier, children, terms, level, rules)
    return best(candidates, beam_width, level, rules.quota, level == trie.num_levels - 1)


def _room(trie: SidTrie, batch: int, beam_width: int) -> int:
    """Codes that a search reads if it reads level by level; the last level's are not read."""
    return batch * sum(min(beam_width, codes.shape[0]) for codes in trie.codes[:-1])


def _step(
    model: Backbone, prompt: Prompt, trie: SidTrie, tail: Tail, nodes: Tensor, level: int
) -> tuple[Tensor, Tail]:
    """(batch, beams, d_model) states that predict `level`, once the beams read their codes."""
    step, tail = tail.read(trie.codes_of(level - 1, nodes), level)
    return model.step(prompt, step), tail


def _terms(
    model: Backbone,
    states: Tensor,
    trie: SidTrie,
    children: Spread,
    level: int,
    ahead: LookAhead | None,
) -> Tensor:
    """(batch, places) float32: log-probability of each child's code, given its beam."""
    if ahead is not None:
        return ahead.terms(trie, children, level)
    log_probs = model.logits(states, level).float().log_softmax(dim=-1)
    codes = trie.codes_of(level, children.nodes)
    if children.share:
        shape = (*log_probs.shape[:2], children.share)
        return log_probs.gather(2, codes.view(shape)).flatten(1)
    return log_probs.flatten(1).gather(1, children.owners * log_probs.shape[2] + codes)
