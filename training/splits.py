"""Which interactions train, which validate and which test.

A split never copies a history: an example points at one interaction, its target, and everything
before it is the history. A split is a choice of targets.
"""

import calendar
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.errors import ModelError
from training.card import SECONDS_PER_DAY
from training.data_config import SplitConfig
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
    """Training histories of every user who has one, and the examples that measure."""

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


def split_histories(histories: Histories, config: SplitConfig) -> Split:
    """Split as a recipe says.

    Raises:
        ModelError: a split by time of interactions without times, or one that leaves a part empty.
    """
    if config.kind == "leave-one-out":
        return leave_one_out(histories)
    if histories.timestamps is None:
        raise ModelError('[split]: kind = "time" needs a timestamp in every interaction')
    if config.dates is None:
        borders = np.quantile(histories.timestamps, config.quantiles, method="nearest").tolist()
    else:
        borders = [calendar.timegm(day.timetuple()) for day in config.dates]
    split = by_time(histories, int(borders[0]), int(borders[1]))
    sizes = {"training": len(split.train), "validation": len(split.valid), "test": len(split.test)}
    for name, size in sizes.items():
        if size == 0:
            days = [dt.datetime.fromtimestamp(border, dt.UTC).date() for border in borders]
            raise ModelError(
                f"[split]: no user is left for {name} with borders on {days[0]} and {days[1]}; "
                "move quantiles or dates"
            )
    return split


def by_time(histories: Histories, valid_from: int, test_from: int) -> Split:
    """What happened before `valid_from` trains; borders in seconds UTC, timestamps needed.

    A user's first item at or after `valid_from` validates if it came before `test_from`; the first
    at or after `test_from` tests. Everything before the target is the history, so a test history
    may hold items of the validation time. Only targets with a history count.
    """
    trained = _first_since(histories, valid_from)
    tested = _first_since(histories, test_from)
    lengths = histories.lengths
    train_users = np.flatnonzero(trained > 0)
    valid_users = np.flatnonzero((trained > 0) & (trained < tested))
    test_users = np.flatnonzero((tested > 0) & (tested < lengths))
    return Split(
        train=Examples(histories, train_users, trained[train_users]).histories(),
        valid=Examples(histories, valid_users, trained[valid_users]),
        test=Examples(histories, test_users, tested[test_users]),
    )


def _first_since(histories: Histories, moment: int) -> npt.NDArray[np.int64]:
    """(num_users,): position of each user's first item at or after a moment, else the length."""
    assert histories.timestamps is not None
    rows = np.flatnonzero(histories.timestamps >= moment)
    users = histories.user_of[rows]
    first = histories.lengths.copy()
    np.minimum.at(first, users, rows - histories.offsets[users])
    return first


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
