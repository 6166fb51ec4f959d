"""Which interactions train, which validate and which test.

A split never copies a history: an example points at one interaction, its target, and everything
before it is the history. Other splits (by time) are other choices of targets.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.card import SECONDS_PER_DAY
from training.dataset import Histories, ItemIndices

MIN_LENGTH = 3  # one item to train on, one to validate, one to test


@dataclass(frozen=True)
class Examples:
    """Questions with known answers: after this history, which item came next?

    Args:
        source: whole histories.
        users: (num_examples,) int64 rows of `source`.
        positions: (num_examples,) int64: the target is the user's item at this position.
    """

    source: Histories
    users: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def targets(self) -> ItemIndices:
        """(num_examples,) int32 item indices."""
        targets: ItemIndices = self.source.items[self._rows]
        return targets

    def history(self, example: int) -> ItemIndices:
        """Everything before the target, oldest first: a view."""
        start = self.source.offsets[self.users[example]]
        return self.source.items[start : start + self.positions[example]]

    def pairs(self) -> Iterator[tuple[ItemIndices, int]]:
        """(history, target) of each example."""
        for example, target in enumerate(self.targets.tolist()):
            yield self.history(example), target

    def histories(self) -> Histories:
        """The histories alone, one user per example."""
        starts = self.source.offsets[self.users]
        rows = ranges(starts, self.positions)
        times = self.source.timestamps
        return Histories(
            user_ids=[self.source.user_ids[user] for user in self.users],
            items=self.source.items[rows],
            offsets=np.concatenate(([0], np.cumsum(self.positions))),
            timestamps=None if times is None else times[rows],
        )

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Examples":
        """Some of the examples, by mask or by row."""
        return Examples(self.source, self.users[chosen], self.positions[chosen])

    def same_day(self) -> npt.NDArray[np.bool_] | None:
        """(num_examples,): target on the same day (UTC) as the item before; None without times."""
        if self.source.timestamps is None:
            return None
        days = self.source.timestamps // SECONDS_PER_DAY
        same: npt.NDArray[np.bool_] = days[self._rows] == days[self._rows - 1]
        return same

    @property
    def _rows(self) -> npt.NDArray[np.int64]:
        return self.source.offsets[self.users] + self.positions


@dataclass(frozen=True)
class Split:
    """Training histories of every user, and the examples that measure."""

    train: Histories
    valid: Examples
    test: Examples


def leave_one_out(histories: Histories) -> Split:
    """Each user's last item tests, the one before validates, the rest trains.

    The validation item belongs to the history of the test example. Users with fewer than 3 items
    are only trained on, with all they have.
    """
    lengths = histories.lengths
    tested = np.flatnonzero(lengths >= MIN_LENGTH)
    held_out = np.where(lengths >= MIN_LENGTH, 2, 0)
    return Split(
        train=first_items(histories, lengths - held_out),
        valid=Examples(histories, tested, lengths[tested] - 2),
        test=Examples(histories, tested, lengths[tested] - 1),
    )


def first_items(histories: Histories, lengths: npt.NDArray[np.int64]) -> Histories:
    """Every user's first `lengths[user]` items."""
    rows = ranges(histories.offsets[:-1], lengths)
    times = histories.timestamps
    return Histories(
        user_ids=histories.user_ids,
        items=histories.items[rows],
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        timestamps=None if times is None else times[rows],
    )


def ranges(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """start, start + 1, ..., for each pair, one after the other."""
    ends = np.cumsum(lengths)
    shift = np.repeat(starts - (ends - lengths), lengths)
    rows: npt.NDArray[np.int64] = np.arange(len(shift)) + shift
    return rows
