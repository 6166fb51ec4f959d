"""How others keep a beam search inside a catalog; written for this benchmark.

STATIC (arXiv 2602.22647) as its paper and its PyTorch program describe it: tables over the whole
vocabulary for the first two levels, compressed sparse rows of as many slots as a level's widest
node has children for the others. A trie of dictionaries, as users write it for transformers. And
the same search without any catalog: what it costs to have none.
Shape words: batch, beams, slots, levels, vocabulary (equal for all levels), states.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Codes = npt.NDArray[np.int32]

STATIC_CODES_PER_BEAM = 30  # STATIC's benchmark: what a beam may contribute at the second level


@dataclass(frozen=True)
class Found:
    """What a search found, best first: (batch, beams, levels) semantic IDs and their scores."""

    sids: Tensor
    scores: Tensor


class Selected:
    """The beams of a search, best first: scores, and the codes that each one chose so far.

    Args:
        logits: of all levels; only the batch's size matters.
        beam_width: beams to keep after every level.
    """

    def __init__(self, logits: Sequence[Tensor], beam_width: int) -> None:
        self._beam_width = beam_width
        batch = logits[0].shape[0]
        self.scores = torch.zeros(batch, 1)
        self.sids = torch.zeros(batch, 1, 0, dtype=torch.int64)
        self.codes = torch.zeros(batch, 1, dtype=torch.int64)

    def extend(self, terms: Tensor, codes: Tensor | None = None) -> Tensor:
        """Keep the best candidates.

        Args:
            terms: (batch, beams, slots) log-probabilities of the candidates.
            codes: likewise, the code of each; None if slot c is code c.

        Returns:
            (batch, beam_width) which candidates, counted over beams and slots.
        """
        slots = terms.shape[2]
        totals = (self.scores[..., None] + terms).flatten(1)
        self.scores, best = totals.topk(min(self._beam_width, totals.shape[1]), dim=-1)
        self.codes = best % slots if codes is None else codes.flatten(1).gather(1, best)
        parents = (best // slots)[..., None].expand(-1, -1, self.sids.shape[2])
        self.sids = torch.cat((self.sids.gather(1, parents), self.codes[..., None]), dim=2)
        return best

    def found(self) -> Found:
        """The end."""
        return Found(self.sids, self.scores)


def unconstrained(logits: Sequence[Tensor], beam_width: int) -> Found:
    """Beam search over all sequences of codes; logits per level, (batch, beams, vocabulary)."""
    beams = Selected(logits, beam_width)
    for level in logits:
        beams.extend(level.log_softmax(-1))
    return beams.found()


@dataclass(frozen=True)
class StaticIndex:
    """STATIC's: states are numbered by level; those of level 0 are the codes themselves.

    Args:
        first: (vocabulary,) bool, the codes of level 0 that exist.
        second: (vocabulary, vocabulary) bool, the pairs that exist.
        states: (vocabulary, vocabulary) int32, the state after each pair.
        edges: (edges + vocabulary, 2) int32, code and next state, grouped by state, padded.
        starts: (states + 1,) int64, where each state's edges start.
        widest: per level, the most children of one state of the level above.
    """

    first: Tensor
    second: Tensor
    states: Tensor
    edges: Tensor
    starts: Tensor
    widest: tuple[int, ...]

    @classmethod
    def from_codes(cls, codes: Codes, vocabulary: int) -> "StaticIndex":
        """Build from semantic IDs in any order; at least three levels."""
        sids = codes[np.lexsort(codes.T[::-1])]
        num_sids, num_levels = sids.shape
        is_new = np.ones((num_sids, num_levels), dtype=bool)
        np.logical_or.accumulate(sids[1:] != sids[:-1], axis=1, out=is_new[1:])
        states = sids[:, 0]
        num_states = vocabulary
        table = np.zeros((vocabulary, vocabulary), dtype=np.int32)
        ends = [vocabulary]
        parents, edges = [], []
        for level in range(1, num_levels):
            new = is_new[:, level]
            parents.append(states[new])
            if level < num_levels - 1:
                states = (np.cumsum(new) + (num_states - 1)).astype(np.int32)
                num_states = int(states[-1]) + 1
            else:
                states = np.zeros_like(states)  # a leaf leads nowhere
            if level == 1:
                table[sids[:, 0], sids[:, 1]] = states
            edges.append(np.stack((sids[new, level], states[new]), axis=1))
            ends.append(num_states)
        children = np.bincount(np.concatenate(parents), minlength=num_states)
        spans = zip([0, *ends[:-2]], ends[:-1], strict=True)
        widest = [int(children[start:end].max()) for start, end in spans]
        first = np.bincount(sids[:, 0], minlength=vocabulary) > 0
        padding = np.zeros((vocabulary, 2), dtype=np.int32)
        return cls(
            torch.from_numpy(first),
            torch.from_numpy(table > 0),
            torch.from_numpy(table),
            torch.from_numpy(np.concatenate((*edges, padding)).astype(np.int32, copy=False)),
            torch.from_numpy(np.concatenate(([0], np.cumsum(children)))),
            (int(first.sum()), *widest),
        )

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors."""
        tensors = (self.first, self.second, self.states, self.edges, self.starts)
        return sum(tensor.nbytes for tensor in tensors)

    def search(self, logits: Sequence[Tensor], beam_width: int) -> Found:
        """Beam search; logits per level, (batch, beams, vocabulary)."""
        beams = Selected(logits, beam_width)
        beams.extend(logits[0].log_softmax(-1).masked_fill(~self.first, -torch.inf))
        states = beams.codes
        for level in range(1, len(logits)):
            log_probs = logits[level].log_softmax(-1)
            expand = self._dense if level == 1 else self._sparse
            terms, codes, following = expand(level, states, log_probs)
            states = following.flatten(1).gather(1, beams.extend(terms, codes))
        return beams.found()

    def _dense(
        self, _level: int, states: Tensor, log_probs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        legal = log_probs.masked_fill(~self.second[states], -torch.inf)
        terms, codes = legal.topk(min(STATIC_CODES_PER_BEAM, legal.shape[2]), dim=-1)
        return terms, codes, self.states[states[..., None], codes]

    def _sparse(
        self, level: int, states: Tensor, log_probs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        starts = self.starts[states.long()]
        children = self.starts[states.long() + 1] - starts
        slots = torch.arange(self.widest[level])
        edges = self.edges[(starts[..., None] + slots).clamp(max=len(self.edges) - 1)]
        codes = edges[..., 0].long()
        terms = log_probs.gather(2, codes)
        return terms.masked_fill(slots >= children[..., None], -torch.inf), codes, edges[..., 1]


Node: TypeAlias = "dict[int, Node]"


class DictTrie:
    """A dictionary per prefix: from each code that may follow to the next dictionary."""

    def __init__(self, codes: Codes) -> None:
        self._root: Node = {}
        for sid in codes.tolist():
            node = self._root
            for code in sid:
                node = node.setdefault(code, {})

    def search(self, logits: Sequence[Tensor], beam_width: int) -> Found:
        """Beam search; logits per level, (batch, beams, vocabulary)."""
        beams = Selected(logits, beam_width)
        nodes = [[self._root] for _ in logits[0]]
        for level in logits:
            vocabulary = level.shape[2]
            best = beams.extend(level.log_softmax(-1) + self._mask(nodes, vocabulary))
            nodes = [
                [row[place // vocabulary][place % vocabulary] for place in places]
                for row, places in zip(nodes, best.tolist(), strict=True)
            ]
        return beams.found()

    @staticmethod
    def _mask(nodes: list[list[Node]], vocabulary: int) -> Tensor:
        mask = torch.full((len(nodes), len(nodes[0]), vocabulary), -torch.inf)
        for row, beams in enumerate(nodes):
            for beam, node in enumerate(beams):
                mask[row, beam, list(node)] = 0
        return mask
