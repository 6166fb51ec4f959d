"""Our index and our beam search as they serve, behind a model that only looks up scores.

Shape words: batch, beams, levels, vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.trie_peers import Found
from model.backbone import Backbone, Prompt
from model.beam_search import Tail, beam_search
from model.config import T5Config
from model.sid_sort import distinct, sort_codes
from model.trie import SidTrie

NO_HISTORY = Prompt((), (), None)


@dataclass(frozen=True)
class Index:
    """The trie, and the semantic IDs that its leaves stand for."""

    trie: SidTrie
    sids: Tensor

    @classmethod
    def from_codes(cls, codes: npt.NDArray[np.int32], codebook_sizes: Sequence[int]) -> "Index":
        """Build from (num_items, levels) semantic IDs in any order."""
        order = sort_codes(codes, codebook_sizes)
        sids = codes.take(order[distinct(codes, order)], axis=0)
        return cls(SidTrie.from_sids(sids), torch.from_numpy(sids))

    @property
    def num_bytes(self) -> int:
        """Memory of the trie and of the semantic IDs."""
        return sum(part.nbytes for part in (*self.trie.first_child, *self.trie.codes, self.sids))

    def search(self, model: "Replay", beam_width: int) -> Found:
        """The service's beam search, and the semantic IDs of what it found."""
        beams = beam_search(model, NO_HISTORY, self.trie, beam_width)
        return Found(self.sids[beams.leaves].long(), beams.scores)


class Replay(Backbone):
    """Scores that were drawn beforehand, and keys and values of one number per beam.

    Args:
        logits: per level, (batch, beams, vocabulary).
    """

    def __init__(self, logits: Sequence[Tensor]) -> None:
        sizes = tuple(scores.shape[2] for scores in logits)
        super().__init__(T5Config(codebook_sizes=sizes, d_model=1, tie_outputs=True))
        self.drawn = logits
        self._states = [scores[..., :1].contiguous() for scores in logits]
        self._remembered = [
            states[None, None, ..., None].expand(1, 2, -1, -1, 1, 1) for states in self._states
        ]

    def logits(self, states: Tensor, level: int) -> Tensor:
        """As drawn, whatever the states are."""
        return self.drawn[level][:, : states.shape[1]]

    def start(self, prompt: Prompt) -> tuple[Tensor, Tensor | None]:  # noqa: ARG002
        """See Backbone."""
        return self._states[0], self._remembered[0]

    def step(
        self,
        prompt: Prompt,  # noqa: ARG002
        past: Tensor | None,  # noqa: ARG002
        codes: Tensor,
        level: int,
    ) -> tuple[Tensor, Tensor]:
        """See Backbone."""
        beams = codes.shape[1]
        return self._states[level][:, :beams], self._remembered[level][:, :, :, :beams]

    def prompt(self, tokens: Tensor, mask: Tensor, ratio: float | None = None) -> Prompt:
        """There is nothing to read."""
        raise NotImplementedError

    def decode(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """There is nothing to train."""
        raise NotImplementedError

    def gather_memory(self, beam_width: int) -> None:
        """What a search spends on its beams' keys and values; the peers' loops have none."""
        batch = self._states[0].shape[0]
        for level in range(1, len(self.drawn)):
            remembered = tuple(self._remembered[before] for before in range(level))
            ancestors = torch.zeros(batch, beam_width, level, dtype=torch.int64)
            Tail(remembered, ancestors, self._states[0]).gather()
