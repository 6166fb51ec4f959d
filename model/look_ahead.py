"""Reading several levels in one pass, where the beams have few leaves left.

Deep in a trie most prefixes have one continuation. Then the beams' codes and those of all leaves
below them are fed at once instead of a step per level; every leaf's log-probabilities are known,
and the search goes on by looking them up. It keeps and drops what it would have, step by step.
Shape words: batch, beams, places (leaves below the beams, flat), levels (from here to the last).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.backbone import STEP_COST, Backbone, Prompt
from model.candidates import Frontier
from model.tail import Tail
from model.trie import SidTrie, Spread, spread, together


@dataclass(frozen=True)
class LookAhead:
    """Log-probabilities of all leaves below some beams.

    Args:
        first_level: the level that was predicted first.
        log_probs: (batch, places, levels) float32.
        shift: (batch, beams) int64; leaf number + shift of the beam above it = its place.
    """

    first_level: int
    log_probs: Tensor
    shift: Tensor

    def terms(self, trie: SidTrie, children: Spread, level: int) -> Tensor:
        """(batch, places) float32: log-probability of each child's code."""
        leaf, _ = trie.leaves_below(level, children.nodes)
        place = leaf + self.shift.gather(1, children.owners)
        place = place.clamp(0, self.log_probs.shape[1] - 1)  # filler points anywhere
        return self.log_probs[..., level - self.first_level].gather(1, place)

    def follow(self, parents: Tensor) -> "LookAhead":
        """The same for the beams that came from (batch, beams) `parents`."""
        return replace(self, shift=self.shift.gather(1, parents))


def num_leaves_ahead(
    trie: SidTrie, level: int, frontier: Frontier, host_reads: bool, step_cost: int = STEP_COST
) -> int:
    """Places for all leaves below the beams if reading them in one pass is cheaper; else 0.

    Args:
        trie: the leaves that exist.
        level: the next to predict.
        frontier: beams of the level above.
        host_reads: on a CPU, count the leaves; else take the most that so many nodes can have.
        step_cost: rows that could be read in the time of one more pass; -1 = never read ahead.
    """
    levels = trie.num_levels - level
    if levels < 2 or step_cost < 0:
        return 0
    batch, beams = frontier.nodes.shape
    places = together(trie.most_leaves[level - 1], beams)
    if host_reads and frontier.nodes.device.type == "cpu":
        start, end = trie.leaves_below(level - 1, frontier.nodes, frontier.legal)
        places = min(places, _rounded_up(int((end - start).sum(dim=1).max())))
    return places if batch * (places - beams) <= step_cost else 0


def _rounded_up(places: int) -> int:
    """To a multiple of an eighth of a power of two, so that few shapes occur."""
    unit = max(4, (1 << places.bit_length()) // 8)
    return -(-places // unit) * unit


def look_ahead(
    model: Backbone,
    prompt: Prompt,
    trie: SidTrie,
    tail: Tail,
    frontier: Frontier,
    level: int,
    places: int,
) -> LookAhead:
    """Read the codes of all leaves below the beams.

    Args:
        model: in eval mode.
        prompt: the histories.
        trie: the leaves that exist.
        tail: what the beams decoded so far.
        frontier: beams of the level above.
        level: the next to predict.
        places: at least as many as there are leaves below the beams of any row.
    """
    start, end = trie.leaves_below(level - 1, frontier.nodes, frontier.legal)
    leaves, owners, _, _ = spread(start, end, places, trie.num_leaves)
    of_leaf = trie.sids[leaves].long().unbind(2)
    codes = trie.codes_of(level - 1, frontier.nodes)
    step = tail.read_ahead(codes, owners, of_leaf[level:-1], level)
    states = torch.split(model.step(prompt, step), step.counts, dim=1)
    tables = [
        model.logits(each, level + age).float().log_softmax(dim=-1)
        for age, each in enumerate(states)
    ]
    chosen = owners * tables[0].shape[2] + of_leaf[level]
    terms = [tables[0].flatten(1).gather(1, chosen)]
    terms += [
        table.gather(2, code[..., None])[..., 0]
        for table, code in zip(tables[1:], of_leaf[level + 1 :], strict=True)
    ]
    ends = (end - start).cumsum(1)
    return LookAhead(level, torch.stack(terms, dim=2), ends - end)
