"""From beams to answers: found leaves become items, kept tokens become an explanation."""

from collections import Counter
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from model.beam_search import Beams
from model.pruning import Cut
from model.queries import Query, RankedItem
from model.row_rules import RowRules
from model.semantic_id import SidTable


@dataclass(frozen=True)
class Found:
    """Beams as plain numbers, fetched from the device once."""

    leaves: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    terms: npt.NDArray[np.float32]
    lost: npt.NDArray[np.float32]

    @classmethod
    def from_device(cls, beams: Beams) -> Self:
        """Wait for the search to finish."""
        return cls(
            beams.leaves.cpu().numpy(),
            beams.scores.cpu().numpy(),
            beams.level_log_probs.cpu().numpy(),
            beams.lost.cpu().numpy(),
        )

    def is_proved(self, row: int, items: list[RankedItem], limit: int) -> bool:
        """Whether no leaf outside the beam can be among the row's best `limit`.

        A prefix ranks at least as high as any leaf below it. So when the best prefix that was
        dropped ranks below the last item that counts, nothing of worth was dropped.
        """
        if self.lost[row] == -np.inf:
            return True
        return len(items) == limit and self.lost[row] < items[-1].score + items[-1].boost


def open_leaves(
    sids: SidTable, found: Found, row: int, query: Query, rules: RowRules
) -> list[RankedItem]:
    """The items of one row's leaves, best first: several items may share a semantic ID."""
    leaves = sids.leaves
    real = np.flatnonzero(found.scores[row] > -np.inf)
    number = found.leaves[row][real]
    starts, ends = leaves.offsets[number], leaves.offsets[number + 1]
    place = np.repeat(real, ends - starts)
    items = np.concatenate(
        [leaves.items[start:end] for start, end in zip(starts, ends, strict=True)]
        or [leaves.items[:0]]
    ).astype(np.int64)
    opened = rules.is_open(items)
    items, place = items[opened], place[opened]
    scores = found.scores[row][place]
    boosts = np.zeros_like(scores) if rules.biases is None else rules.biases.added_to(items)
    order = np.lexsort((found.leaves[row][place], -(scores + boosts)))
    chosen = _first(order.tolist(), sids.codes, items, query)
    return [
        RankedItem(
            item_index=int(items[n]),
            score=float(scores[n]),
            sid=tuple(sids.codes[items[n]].tolist()),
            level_log_probs=tuple(found.terms[row][place[n]].tolist()) if query.explain else None,
            boost=float(boosts[n]),
        )
        for n in chosen
    ]


def _first(
    order: list[int], codes: npt.NDArray[np.int32], items: npt.NDArray[np.int64], query: Query
) -> list[int]:
    """As many as asked for, not more alike than asked for."""
    if query.diversity is None:
        return order[: query.limit]
    length, most = query.diversity.prefix_length, query.diversity.max_items
    alike: Counter[bytes] = Counter()
    chosen: list[int] = []
    for n in order:
        prefix = codes[items[n], :length].tobytes()
        if len(chosen) < query.limit and alike[prefix] < most:
            alike[prefix] += 1
            chosen.append(n)
    return chosen


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
