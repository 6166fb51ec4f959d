"""From beams to answers: found leaves become items, kept tokens become an explanation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from model.beam_search import Beams
from model.pruning import Cut
from model.queries import Query, RankedItem
from model.semantic_id import SidTable


@dataclass(frozen=True)
class Found:
    """Beams as plain numbers, fetched from the device once."""

    leaves: list[list[int]]
    scores: list[list[float]]
    terms: list[list[list[float]]]
    lost: list[float]

    @classmethod
    def from_device(cls, beams: Beams) -> Self:
        """Wait for the search to finish."""
        return cls(
            beams.leaves.tolist(),
            beams.scores.tolist(),
            beams.level_log_probs.tolist(),
            beams.lost.tolist(),
        )

    def is_proved(self, row: int, limit: int) -> bool:
        """Whether no leaf outside the beam can be among the row's best `limit`.

        A prefix scores at least as much as any leaf below it. So when the best prefix that was
        dropped scores less than the last leaf that counts, nothing of worth was dropped.
        """
        last = min(limit, len(self.scores[row])) - 1
        return self.lost[row] == -np.inf or self.lost[row] < self.scores[row][last]


def open_leaves(
    sids: SidTable, found: Found, row: int, query: Query, seen: npt.NDArray[np.int64]
) -> Iterator[RankedItem]:
    """The items of one row's leaves, best first: several items may share a semantic ID."""
    remaining = query.limit
    closed = frozenset(seen.tolist())
    rows = zip(found.leaves[row], found.scores[row], found.terms[row], strict=True)
    for leaf, score, terms in rows:
        first, end = sids.leaf_offsets[leaf : leaf + 2]
        for item in sids.items_by_leaf[first:end].tolist():
            if remaining == 0 or score == -np.inf:
                return
            if item in closed:
                continue
            remaining -= 1
            sid = tuple(sids.sids[leaf].tolist())
            yield RankedItem(item, score, sid, tuple(terms) if query.explain else None)


def kept_items(
    cut: Cut | None, mask: npt.NDArray[np.bool_], tokens_per_item: int
) -> npt.NDArray[np.int64]:
    """(batch, items in the padded row): how many tokens of each item the encoder kept."""
    kept = mask
    if cut is not None:
        kept = np.zeros_like(mask)
        rows, places = np.nonzero(cut.mask.cpu().numpy())
        kept[rows, cut.indices.cpu().numpy()[rows, places]] = True
    per_item: npt.NDArray[np.int64] = kept.reshape(len(mask), -1, tokens_per_item).sum(axis=2)
    return per_item


def kept_history(kept: npt.NDArray[np.int64], history_length: int) -> list[tuple[int, int]]:
    """Positions count from the start of the whole history, of which only the end was read."""
    skipped = max(0, history_length - len(kept))
    return [(skipped + int(place), int(kept[place])) for place in np.flatnonzero(kept)]
