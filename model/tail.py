"""Tail: what the beams of a search decoded so far.

Shape words: batch, beams, levels (decoded so far), blocks, heads (of keys and values), d_kv.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tail:
    """Stored once per level and found by ancestry; beams that share a prefix share it.

    Args:
        remembered: per level, (blocks, 2, batch, beams of that level, heads, d_kv); None at level 0
            of a decoder-only model, whose prompt remembers for it.
        ancestors: (batch, beams, levels) int64: each beam's ancestor at each level, of the beams
            that read something there.
        log_probs: (batch, beams, levels) float32.
    """

    remembered: tuple[Tensor | None, ...]
    ancestors: Tensor
    log_probs: Tensor

    @classmethod
    def begin(cls, remembered: Tensor | None, scores: Tensor) -> "Tail":
        """At the root: what was remembered there, and (batch, 1) scores."""
        nothing = scores[..., None][..., :0]
        return cls((remembered,), nothing.long(), nothing)

    def remember(self, now: Tensor) -> "Tail":
        """The beams read one more code."""
        return replace(self, remembered=(*self.remembered, now))

    def follow(self, parents: Tensor, terms: Tensor) -> "Tail":
        """The beams after a choice.

        Args:
            parents: (batch, beams) int64, which beam each came from.
            terms: (batch, beams) float32, log-probability of what was chosen.
        """
        own = parents[..., None]
        inherited = own.expand(-1, -1, self.ancestors.shape[2])
        ancestors = torch.cat((self.ancestors.gather(1, inherited), own), dim=2)
        log_probs = torch.cat((self.log_probs.gather(1, inherited), terms[..., None]), dim=2)
        return replace(self, ancestors=ancestors, log_probs=log_probs)

    def gather(self, owners: Tensor | None = None) -> list[Tensor]:
        """Per level, (blocks, 2, batch, beams, heads, d_kv) of the beams, or of some of them.

        What all beams have in common, e.g. of the root, is not repeated: 1 instead of beams.

        Args:
            owners: (batch, places) int64 beams, any number of times each; None = each once.
        """
        ancestors = self.ancestors
        if owners is not None:
            ancestors = ancestors.gather(1, owners[..., None].expand(-1, -1, ancestors.shape[2]))
        return [
            states if states.shape[3] == 1 else _pick(states, ancestors[..., level])
            for level, states in enumerate(self.remembered)
            if states is not None
        ]


def _pick(states: Tensor, beams: Tensor) -> Tensor:
    """(blocks, 2, batch, beams, heads, d_kv) -> the same of (batch, places) chosen beams."""
    batch, width = states.shape[2:4]
    rows = torch.arange(0, batch * width, width, device=beams.device)[:, None]
    chosen = states.flatten(2, 3).index_select(2, (beams + rows).flatten())
    return chosen.view(*states.shape[:3], -1, *states.shape[4:])
