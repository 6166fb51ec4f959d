"""FairQueue: who came alone and who came together share the time, whoever has more rows."""

from collections.abc import Hashable
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.fair_queue import FairQueue


@dataclass(frozen=True)
class Row:
    """A row in the queue."""

    name: str
    group: Hashable | None = None
    cost_s: float = 1.0


def alone(*names: str, cost_s: float = 1.0) -> list[Row]:
    """Rows that came alone."""
    return [Row(name, None, cost_s) for name in names]


def together(group: str, num_rows: int, cost_s: float = 1.0) -> list[Row]:
    """A group of rows, named after it."""
    return [Row(f"{group}{number}", group, cost_s) for number in range(num_rows)]


def queue_of(*rows: Row) -> FairQueue[Row]:
    """A queue in which they wait, in this order."""
    queue = FairQueue[Row]()
    for row in rows:
        queue.add(row)
    return queue


def names(rows: list[Row]) -> str:
    """Their names, one after the other."""
    return " ".join(row.name for row in rows)


def test_alone_is_first_come_first_served() -> None:
    """And so is one group among itself."""
    assert names(queue_of(*alone("a", "b", "c")).take(2)) == "a b"
    assert names(queue_of(*together("g", 3)).take(9)) == "g0 g1 g2"


def test_a_group_does_not_hold_up_who_comes_after_it() -> None:
    """Of a hundred rows one is served before it, not all."""
    queue = queue_of(*together("g", 100), *alone("a", "b"))

    assert names(queue.take(5)) in {"a g0 b g1 g2", "g0 a g1 b g2"}


def test_many_alone_do_not_hold_up_a_group() -> None:
    """It gets every other place."""
    queue = queue_of(*alone(*"abcdef"), *together("g", 2))

    taken = queue.take(4)

    assert {row.name for row in taken} == {"a", "b", "g0", "g1"}


def test_groups_take_turns() -> None:
    """Three groups get the same, whoever has more."""
    queue = queue_of(*together("g", 10), *together("h", 2), *together("k", 10))

    assert names(queue.take(7)) == "g0 h0 k0 g1 h1 k1 g2"


def test_turns_go_by_time_not_by_rows() -> None:
    """A row that takes four times as long counts as four."""
    queue = queue_of(*together("g", 10, cost_s=4.0), *alone(*"abcdefgh"))

    taken = queue.take(10)

    assert sum(row.group is None for row in taken) == 8
    assert sum(row.group == "g" for row in taken) == 2


def test_who_was_away_has_saved_up_nothing() -> None:
    """After a long time alone, a group begins as everybody's equal."""
    queue = queue_of(*alone(*map(str, range(50))))
    queue.take(40)
    for row in together("g", 20):
        queue.add(row)

    taken = queue.take(10)

    assert sum(row.group == "g" for row in taken) == 5


def test_what_is_put_back_comes_first_again() -> None:
    """In the order in which it was taken."""
    queue = queue_of(*alone("a", "b", "c"), *together("g", 3))
    taken = queue.take(4)

    queue.put_back(taken[1:])

    assert len(queue) == 5
    assert set(names(queue.take(3)).split()) == {row.name for row in taken[1:]}


def test_ahead_is_what_will_be_served_before() -> None:
    """One more of either side shares the time with the other side."""
    queue = queue_of(*together("g", 100), *alone("a", "b"))

    assert queue.ahead_s(None) == 2 + 2
    assert queue.ahead_s("g") == 100 + 2
    assert queue.ahead_s("new") == 0
    assert queue.cost_s == 102


def test_who_leaves_is_gone() -> None:
    """From either side; again changes nothing."""
    rows = [*alone("a", "b"), *together("g", 1)]
    queue = queue_of(*rows)

    for row in [rows[0], rows[2], rows[2]]:
        queue.discard(row)

    assert (len(queue), queue.cost_s) == (1, 1.0)
    assert names(list(queue.first())) == "b"
    assert names(queue.take(5)) == "b"


SIDES = st.lists(st.sampled_from([None, "g", "h"]), min_size=1, max_size=60)


@given(sides=SIDES, size=st.integers(1, 9))
def test_every_row_is_served_once_and_each_side_in_order(
    sides: list[str | None], size: int
) -> None:
    """Nothing is lost and nobody overtakes their own."""
    rows = [Row(f"{number:02}", side) for number, side in enumerate(sides)]
    queue = queue_of(*rows)
    served: list[Row] = []
    while len(queue):
        taken = queue.take(size)
        queue.put_back(taken[1:])
        served += taken[:1]

    assert sorted(row.name for row in served) == [row.name for row in rows]
    for side in (None, "g", "h"):
        own = [row.name for row in served if row.group == side]
        assert own == sorted(own)
