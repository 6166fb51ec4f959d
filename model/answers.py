"""From beams to answers: found leaves become items, kept tokens become an explanation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from model.ancestry import Ints
from model.beam_search import Beams
from model.leaves import Codes
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
    place = np.flatnonzero(found.scores[row] > -np.inf)
    number = found.leaves[row][place]
    starts, ends = leaves.offsets[number], leaves.offsets[number + 1]
    items, place = _opened(leaves.items, starts, ends, place)
    opened = rules.is_open(items)
    items, place = items[opened], place[opened]
    scores = found.scores[row][place]
    boosts = np.zeros_like(scores) if rules.biases is None else rules.biases.added_to(items)
    order = np.arange(len(items))
    if rules.biases is not None or query.diversity is not None:  # else leaves are best first
        order = np.lexsort((found.leaves[row][place], -(scores + boosts)))
    chosen = np.array(_first(order, sids.codes, items, query), dtype=np.int64)
    terms = found.terms[row][place[chosen]].tolist() if query.explain else None
    columns = (items[chosen], scores[chosen], boosts[chosen], sids.codes[items[chosen]])
    return [
        RankedItem(item, score, tuple(sid), None if terms is None else tuple(terms[n]), boost)
        for n, (item, score, boost, sid) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        )
    ]


def _opened(of_leaf: Codes, starts: Codes, ends: Codes, place: Ints) -> tuple[Ints, Ints]:
    """The items of all leaves, leaf by leaf, and each one's place in the beam."""
    sizes = ends - starts
    if (sizes == 1).all():
        return of_leaf[starts].astype(np.int64), place
    shift = np.repeat(starts - (sizes.cumsum() - sizes), sizes)
    items = of_leaf[shift + np.arange(len(shift))]
    return items.astype(np.int64), np.repeat(place, sizes)


def _first(order: Ints, codes: Codes, items: Ints, query: Query) -> Sequence[int] | Ints:
    """As many as asked for, not more alike than asked for."""
    if query.diversity is None:
        return order[: query.limit]
    length, most = query.diversity.prefix_length, query.diversity.max_items
    alike: Counter[bytes] = Counter()
    chosen: list[int] = []
    for n in order.tolist():
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
