"""FairQueue: requests that come alone, and groups of rows that came together, take turns.

When both wait, each side gets half of the model's time, by what its rows are predicted to take;
when one side has nothing, the other gets all. Alone is served first come first served; groups take
turns row by row. So a group of a hundred rows delays whoever comes after it by a batch, not by all
of them, and many small requests do not hold up a group for ever.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

LEAST_COST_S = 1e-9
"""So that sides take turns also where nothing is predicted to take any time."""


class Row(Protocol):
    """What the queue looks at; neither changes while the row waits."""

    @property
    def group(self) -> Hashable | None:
        """Who came together has the same; None = came alone."""
        ...

    @property
    def cost_s(self) -> float:
        """Predicted seconds."""
        ...


RowT = TypeVar("RowT", bound=Row)


@dataclass
class _Lane(Generic[RowT]):
    """Rows in order, and what they cost together."""

    rows: OrderedDict[RowT, None] = field(default_factory=OrderedDict)
    cost_s: float = 0.0

    def add(self, row: RowT, *, in_front: bool) -> None:
        self.rows[row] = None
        self.cost_s += row.cost_s
        if in_front:
            self.rows.move_to_end(row, last=False)

    def remove(self, row: RowT) -> None:
        del self.rows[row]
        self.cost_s = self.cost_s - row.cost_s if self.rows else 0.0


class FairQueue(Generic[RowT]):
    """Rows that wait; each is in it once."""

    def __init__(self) -> None:
        self._alone = _Lane[RowT]()
        self._groups: OrderedDict[Hashable, _Lane[RowT]] = OrderedDict()  # whose turn it is first
        self._num_grouped = 0
        self._alone_used_s = self._groups_used_s = 0.0

    def __len__(self) -> int:
        return len(self._alone.rows) + self._num_grouped

    def __iter__(self) -> Iterator[RowT]:
        for lane in (self._alone, *self._groups.values()):
            yield from lane.rows

    @property
    def cost_s(self) -> float:
        """Of all rows."""
        return self._alone.cost_s + sum(lane.cost_s for lane in self._groups.values())

    def first(self) -> Iterator[RowT]:
        """The first row of every lane; one of them has waited longest."""
        for lane in (self._alone, *self._groups.values()):
            if lane.rows:
                yield next(iter(lane.rows))

    def ahead_s(self, group: Hashable | None) -> float:
        """What is served before a row that comes now."""
        if group is None:
            own_s = self._alone.cost_s
            return own_s + min(own_s, self.cost_s - own_s)
        lane = self._groups.get(group)
        own_s = lane.cost_s if lane is not None else 0.0
        grouped_s = sum(min(each.cost_s, own_s) for each in self._groups.values())
        return grouped_s + min(grouped_s, self._alone.cost_s)

    def add(self, row: RowT) -> None:
        """Let the row wait, behind those of its side."""
        self._put(row, in_front=False)

    def put_back(self, rows: Iterable[RowT]) -> None:
        """Let rows that were taken be the next ones again, in this order."""
        for row in reversed(list(rows)):
            self._put(row, in_front=True)
            self._use(row, -1)
            if row.group is not None:
                self._groups.move_to_end(row.group, last=False)

    def discard(self, row: RowT) -> None:
        """Take a row out wherever it is, if it is there."""
        lane = self._alone if row.group is None else self._groups.get(row.group)
        if lane is not None and row in lane.rows:
            self._remove(lane, row)

    def take(self, num_rows: int) -> list[RowT]:
        """Take out the next rows, as many as there are."""
        taken: list[RowT] = []
        while len(taken) < num_rows and len(self):
            row = self._next()
            self._use(row, 1)
            taken.append(row)
        return taken

    def _put(self, row: RowT, *, in_front: bool) -> None:
        if row.group is None:
            if not self._alone.rows:  # time that it left unused is not saved up
                self._alone_used_s = max(self._alone_used_s, self._groups_used_s)
            self._alone.add(row, in_front=in_front)
            return
        if not self._groups:
            self._groups_used_s = max(self._alone_used_s, self._groups_used_s)
        self._groups.setdefault(row.group, _Lane[RowT]()).add(row, in_front=in_front)
        self._num_grouped += 1

    def _next(self) -> RowT:
        is_alone = bool(self._alone.rows) and (
            not self._groups or self._alone_used_s <= self._groups_used_s
        )
        lane = self._alone if is_alone else next(iter(self._groups.values()))
        row = next(iter(lane.rows))
        self._remove(lane, row)
        if row.group in self._groups:
            self._groups.move_to_end(row.group)
        return row

    def _remove(self, lane: _Lane[RowT], row: RowT) -> None:
        lane.remove(row)
        if row.group is not None:
            self._num_grouped -= 1
            if not lane.rows:
                del self._groups[row.group]

    def _use(self, row: RowT, times: int) -> None:
        cost_s = times * max(LEAST_COST_S, row.cost_s)
        if row.group is None:
            self._alone_used_s += cost_s
        else:
            self._groups_used_s += cost_s
