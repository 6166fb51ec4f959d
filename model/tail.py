"""Tail: what the beams of a search decoded so far.

Shape words: batch, beams, rows (codes that one pass reads), depth (codes that a beam read), levels,
places (of remembered codes), blocks, numbers (keys and values of one code).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.backbone import Step


@dataclass(frozen=True)
class Tail:
    """Keys and values are written once and found by ancestry; beams that share a prefix share them.

    Args:
        store: (blocks, places, numbers); a pass of the decoder fills it up from `used` on.
        used: places that are filled.
        seen: (batch, beams, depth) int64 places of what each beam read, oldest first.
        log_probs: (batch, beams, levels) float32.
    """

    store: Tensor
    used: int
    seen: Tensor
    log_probs: Tensor

    @classmethod
    def begin(cls, remembered: Tensor, scores: Tensor, room: int) -> "Tail":
        """At the root.

        Args:
            remembered: (blocks, batch or 0, numbers), from `Backbone.start`.
            scores: (batch, 1) float32.
            room: places to set aside; more are made when they are needed.
        """
        used = remembered.shape[1]
        seen = torch.arange(used, device=scores.device).view(len(scores), 1, -1)
        tail = cls(remembered, used, seen, scores[..., None][..., :0])
        return replace(tail, store=tail._store_for(used + room))

    def read(self, codes: Tensor, level: int) -> tuple[Step, "Tail"]:
        """The pass that predicts `level` after every beam's (batch, beams) codes."""
        own = self._places(*codes.shape)[..., None]
        seen = torch.cat((self.seen, own), dim=2)
        end = self.used + own.numel()
        store = self._store_for(end)
        tail = Tail(store, end, seen, self.log_probs)
        return Step(level, (codes,), seen, store, self.used), tail

    def read_ahead(
        self, codes: Tensor, owners: Tensor, further: Sequence[Tensor], level: int
    ) -> Step:
        """The pass that predicts `level` and the ones below it.

        Args:
            codes: (batch, beams), every beam's.
            owners: (batch, leaves) int64, the beam above each leaf.
            further: per level from `level` to the last but one, (batch, leaves) codes.
            level: the next to predict.
        """
        beams, leaves = codes.shape[1], owners.shape[1]
        places = self._places(len(codes), beams + len(further) * leaves)
        own, below = places[:, :beams, None], places[:, beams:].view(len(codes), -1, leaves)
        above = torch.cat((self.seen, own), dim=2)
        inherited = above.gather(1, owners[..., None].expand(-1, -1, above.shape[2]))
        of_leaf = torch.cat((inherited, below.transpose(1, 2)), dim=2)
        filler = own.expand(-1, -1, len(further))
        seen = [torch.cat((above, filler), dim=2), *[of_leaf] * len(further)]
        store = self._store_for(self.used + places.numel())
        return Step(level, (codes, *further), torch.cat(seen, dim=1), store, self.used)

    def follow(self, parents: Tensor, terms: Tensor) -> "Tail":
        """The beams after a choice.

        Args:
            parents: (batch, beams) int64, which beam each came from.
            terms: (batch, beams) float32, log-probability of what was chosen.
        """
        own = parents[..., None]
        seen = self.seen.gather(1, own.expand(-1, -1, self.seen.shape[2]))
        log_probs = self.log_probs.gather(1, own.expand(-1, -1, self.log_probs.shape[2]))
        log_probs = torch.cat((log_probs, terms[..., None]), dim=2)
        return Tail(self.store, self.used, seen, log_probs)

    def _places(self, batch: int, rows: int) -> Tensor:
        """(batch, rows) int64: the next that are free."""
        end = self.used + batch * rows
        return torch.arange(self.used, end, device=self.seen.device).view(batch, rows)

    def _store_for(self, end: int) -> Tensor:
        """The store, with so many places at least."""
        blocks, places, numbers = self.store.shape
        if end <= places:
            return self.store
        store = self.store.new_empty(blocks, end, numbers)
        store[:, : self.used] = self.store[:, : self.used]
        return store
