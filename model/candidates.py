"""Candidates of one level, and which of them stay: legal children only, ranked before top-k.

Shape words: batch, beams, places (candidates of one level, flat; see SidTrie.children).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.rules import Quota, Rules
from model.trie import Spread


@dataclass(frozen=True)
class Frontier:
    """The beams of a level; best first, unless none had to be dropped.

    Args:
        nodes: (batch, beams) int64 nodes of the level.
        scores: (batch, beams) float32; -inf where fewer legal prefixes than beams exist.
        ranks: (batch, beams) float32, what they are ranked by: score plus bias.
        groups: (batch, beams) int64, the ancestor whose leaves a quota counts; None without quota.
    """

    nodes: Tensor
    scores: Tensor
    ranks: Tensor
    groups: Tensor | None

    @property
    def legal(self) -> Tensor:
        """(batch, beams) bool, False = filler."""
        return self.scores > -torch.inf

    @classmethod
    def root(cls, batch: int, device: torch.device, quota: Quota | None) -> "Frontier":
        """Before level 0: the trie's root."""
        nodes = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        scores = torch.zeros(batch, 1, device=device)
        return cls(nodes, scores, scores, None if quota is None else nodes)


@dataclass(frozen=True)
class Candidates:
    """Children of all beams, each (batch, places); illegal ones have score -inf.

    `terms` are their own log-probabilities, `ranks` their scores plus bias.
    """

    nodes: Tensor
    owners: Tensor
    scores: Tensor
    ranks: Tensor
    terms: Tensor
    groups: Tensor | None


def candidates_of(
    frontier: Frontier, children: Spread, terms: Tensor, level: int, rules: Rules
) -> Candidates:
    """Score the children of every beam.

    Args:
        frontier: beams of the level above.
        children: their children.
        terms: (batch, places) float32, log-probability of each child's code.
        level: the children's.
        rules: what is legal, and what ranks higher.
    """
    nodes, owners, exists, share = children
    legal = rules.legal(level, nodes, exists)
    if share:
        shares = terms.view(*frontier.scores.shape, share)
        scores = (frontier.scores[..., None] + shares).flatten(1)
    else:
        scores = frontier.scores.gather(1, owners) + terms
    scores = scores.masked_fill_(~legal, -torch.inf)
    bias = rules.bias(level, nodes)
    ranks = scores if bias is None else scores + bias
    groups = None
    if rules.quota is not None:
        assert frontier.groups is not None
        inherited = frontier.groups.gather(1, owners)
        groups = torch.where(rules.quota.lengths == level + 1, nodes, inherited)
    return Candidates(nodes, owners, scores, ranks, terms, groups)


def best(
    candidates: Candidates, beam_width: int, level: int, quota: Quota | None, in_order: bool
) -> tuple[Frontier, Tensor, Tensor, Tensor]:
    """Keep the best candidates, best first; in any order if none has to go and that is enough.

    Returns:
        the new beams; (batch, beams) the beam each came from, and its own log-probability; and
        (batch,) the best rank of a legal candidate that was not kept, -inf if none was dropped.
    """
    if not in_order and candidates.nodes.shape[1] <= beam_width:
        return _all_of(candidates)
    width = min(beam_width, candidates.nodes.shape[1])
    keys = ranking_keys(candidates.ranks, candidates.nodes)
    if quota is not None and candidates.groups is not None:
        keys = _within_quota_first(keys, candidates, level, quota)
    more = min(width + 1, keys.shape[1])
    order = keys.topk(more, dim=1).indices
    kept = order[:, :width]
    if quota is not None:
        lost = candidates.ranks.scatter(1, kept, -torch.inf).amax(dim=1)
    elif more > width:
        lost = candidates.ranks.gather(1, order[:, width:])[:, 0]
    else:
        lost = torch.full_like(candidates.ranks[:, 0], -torch.inf)
    scores = candidates.scores.gather(1, kept)
    same = candidates.ranks is candidates.scores
    frontier = Frontier(
        candidates.nodes.gather(1, kept),
        scores,
        scores if same else candidates.ranks.gather(1, kept),
        None if candidates.groups is None else candidates.groups.gather(1, kept),
    )
    return frontier, candidates.owners.gather(1, kept), candidates.terms.gather(1, kept), lost


def _all_of(candidates: Candidates) -> tuple[Frontier, Tensor, Tensor, Tensor]:
    """What `best` returns if it keeps all, as they stand."""
    frontier = Frontier(candidates.nodes, candidates.scores, candidates.ranks, candidates.groups)
    lost = torch.full_like(candidates.ranks[:, 0], -torch.inf)
    return frontier, candidates.owners, candidates.terms, lost


def ranking_keys(ranks: Tensor, nodes: Tensor) -> Tensor:
    """One int64 per candidate that sorts by rank, then by smaller node; |key| < 2**62.

    A float32's bits, with the magnitude bits of negative numbers flipped, sort like the number
    itself; they become the upper half, less the node, which is below 2**31. Keys of distinct nodes
    differ, so top-k has one right answer on every device.
    """
    bits = ranks.float().view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return ordered.long().bitwise_left_shift_(31).sub_(nodes)


def _within_quota_first(keys: Tensor, candidates: Candidates, level: int, quota: Quota) -> Tensor:
    """Keys in which candidates within their prefix's quota come before all others.

    The others are demoted, not dropped: a beam as wide as the catalog still finds everything, and
    the quota itself is kept when leaves become items.
    """
    assert candidates.groups is not None
    order = keys.argsort(dim=1, descending=True)
    groups = candidates.groups.gather(1, order)
    by_group = groups.argsort(dim=1, stable=True)
    grouped = groups.gather(1, by_group)
    place = torch.arange(keys.shape[1], device=keys.device)
    begins = torch.ones_like(grouped, dtype=torch.bool)
    begins[:, 1:] = grouped[:, 1:] != grouped[:, :-1]
    begin = torch.where(begins, place, 0).cummax(dim=1).values
    number = torch.empty_like(keys).scatter(1, order.gather(1, by_group), place - begin)
    free = (quota.lengths == 0) | (quota.lengths > level)
    within = (free | (number < quota.most)) & (candidates.scores > -torch.inf)
    return torch.where(within, keys + (1 << 62), keys)
