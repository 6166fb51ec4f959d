"""Our index and our beam search as they serve, behind a model that only looks up scores.

Shape words: batch, beams, levels, vocabulary.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.trie_peers import Found
from model.backbone import Backbone, Prompt, Step
from model.beam_search import beam_search
from model.config import T5Config
from model.kernels.library import Kernels
from model.sid_sort import distinct, sort_codes
from model.tail import Tail
from model.trie import SidTrie

NO_HISTORY = Prompt((), (), None)
LEVEL_BY_LEVEL = -1  # a step cost that makes looking ahead never worthwhile


def trie_of(codes: npt.NDArray[np.int32], codebook_sizes: Sequence[int]) -> SidTrie:
    """Our index of (num_items, levels) semantic IDs in any order."""
    order = sort_codes(codes, codebook_sizes)
    return SidTrie.from_sids(codes.take(order[distinct(codes, order)], axis=0))


def num_bytes(trie: SidTrie) -> int:
    """Memory of all its tensors; those that share memory count once."""
    tensors = trie.to_tensors().values()
    return sum({each.data_ptr(): each.nbytes for each in tensors}.values())


class Replay(Backbone):
    """Scores that were drawn beforehand, and keys and values of one number per beam.

    Args:
        drawn: per level, (batch, vocabulary): what every beam of a row thinks of each code.
        beam_width: of the search.
    """

    def __init__(self, drawn: Sequence[Tensor], beam_width: int) -> None:
        sizes = tuple(scores.shape[1] for scores in drawn)
        super().__init__(T5Config(codebook_sizes=sizes, d_model=1, tie_outputs=True))
        self._drawn = drawn
        self._copies: dict[tuple[int, int], Tensor] = {}
        self._states = drawn[0].new_zeros(len(drawn[0]), 1, 1)
        self.beam_width = beam_width
        self.scores = [
            self._of_beams(level, beam_width if level else 1) for level in range(len(drawn))
        ]

    def _of_beams(self, level: int, beams: int) -> Tensor:
        """(batch, beams, vocabulary), a copy per beam: as much to read as from a real model."""
        if (level, beams) not in self._copies:
            copies = self._drawn[level][:, None].expand(-1, beams, -1).contiguous()
            self._copies[level, beams] = copies
        return self._copies[level, beams]

    def logits(self, states: Tensor, level: int) -> Tensor:
        """As drawn, whatever the states are."""
        return self._of_beams(level, states.shape[1])

    def start(self, prompt: Prompt) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See Backbone."""
        return self._states, self._states[None, :, 0]

    def step(self, prompt: Prompt, step: Step) -> Tensor:  # noqa: ARG002
        """See Backbone."""
        states = self._states.expand(-1, sum(step.counts), 1)
        step.store[:, step.begin : step.begin + states.shape[0] * states.shape[1]] = 0
        return states

    def prompt(self, tokens: Tensor, mask: Tensor, ratio: float | None = None) -> Prompt:
        """There is nothing to read."""
        raise NotImplementedError

    def decode(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """There is nothing to train."""
        raise NotImplementedError

    def memory_lookups(self) -> Callable[[], object]:
        """What a search level by level does to find its beams' keys and values."""
        parents = torch.zeros(len(self._states), self.beam_width, dtype=torch.int64)
        levels = range(1, len(self._drawn))
        room = parents.numel() * len(levels)
        begun = Tail.begin(self.start(NO_HISTORY)[1], self._states[..., 0], room)

        def work() -> None:
            tail = begun
            for level in levels:
                step, tail = tail.follow(parents, parents).read(parents, level)
                step.store[0].index_select(0, step.seen.flatten())

        return work


def find(
    trie: SidTrie,
    model: Replay,
    step_cost: int | None = None,
    kernels: Kernels | None = None,
) -> Found:
    """The service's beam search, and the semantic IDs of what it found.

    Args:
        trie: the catalog.
        model: that says the scores.
        step_cost: of `beam_search`.
        kernels: compiled code to choose beams; None = torch does.
    """
    model.kernels = kernels
    beams = beam_search(model, NO_HISTORY, trie, model.beam_width, step_cost=step_cost)
    return Found(trie.sids[beams.leaves].long(), beams.scores)
