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

    def gather(self, owners: Tensor | None = None) -> Tensor | None:
        """(blocks, 2, batch, beams, levels, heads, d_kv) of the beams, or of some of them.

        Args:
            owners: (batch, places) int64 beams, any number of times each; None = each once.
        """
        ancestors = self.ancestors
        if owners is not None:
            ancestors = ancestors.gather(1, owners[..., None].expand(-1, -1, ancestors.shape[2]))
        rows = torch.arange(ancestors.shape[0], device=ancestors.device)[:, None]
        levels = [
            states[:, :, rows, ancestors[..., level]]
            for level, states in enumerate(self.remembered)
            if states is not None
        ]
        return torch.stack(levels, dim=4) if levels else None
