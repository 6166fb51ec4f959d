"""From queries to the rules of a batch: for the search, and for opening the leaves it found.

Shape words: batch, num_items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.ancestry import Ints
from model.boosts import Biases, FewBiases
from model.inventory import Inventory
from model.queries import Diversity, Query
from model.rules import NodeNumbers, NodeSets, Quota, Rules, Share
from model.shelf import Shelf, dead_leaves


@dataclass(frozen=True)
class RowRules:
    """What the items of one row must be like.

    Args:
        shelf: the items of its filter that were not removed; None = all.
        closed: ascending items, seen or denied.
        allowed: ascending items, the only ones, after filter and `closed`; None = no such list.
        biases: what its boosts come to; None = nothing.
        diversity: how many items may be alike; None = any number.
    """

    shelf: Shelf | None
    closed: Ints
    allowed: Ints | None
    biases: Biases | FewBiases | None
    diversity: Diversity | None

    def is_open(self, items: Ints) -> npt.NDArray[np.bool_]:
        """Which of the items may be shown."""
        if self.allowed is not None:
            return _among(items, self.allowed)
        opened = ~_among(items, self.closed)
        return opened if self.shelf is None else opened & self.shelf.items[items]


def _among(items: Ints, members: Ints) -> npt.NDArray[np.bool_]:
    """Which items are among the ascending members."""
    if len(members) == 0:
        return np.zeros(len(items), dtype=bool)
    place = members.searchsorted(items)
    place[place == len(members)] = 0
    found: npt.NDArray[np.bool_] = members[place] == items
    return found


class _Nodes(NamedTuple):
    """Per level, the nodes a row must not enter, or the only ones it may; else None."""

    excluded: list[Ints]
    allowed: list[Ints] | None


def rules_of(inventory: Inventory, queries: Sequence[Query]) -> tuple[Rules, list[RowRules]]:
    """The rules of a batch, and each row's; FilterError if an expression is wrong."""
    rows = [_row_rules(inventory, query) for query in queries]
    nodes = [_nodes(inventory, row) for row in rows]
    num_levels, device = inventory.sids.num_levels, inventory.device
    nothing: list[Ints] = [np.empty(0, dtype=np.int64)] * num_levels
    is_bound = [row.allowed is not None for row in nodes]
    allowed = bound = None
    if any(is_bound):
        sets = [nothing if row.allowed is None else row.allowed for row in nodes]
        allowed = NodeSets.from_rows(sets, num_levels, device)
        bound = torch.tensor(is_bound, device=device)[:, None]
    filtered = [None if row.allowed is not None else row.shelf for row in rows]
    shelves = [None if shelf is None else shelf.tensors for shelf in filtered]
    biases = [row.biases.tensors if isinstance(row.biases, Biases) else None for row in rows]
    rules = Rules(
        excluded=NodeSets.from_rows([row.excluded for row in nodes], num_levels, device),
        allowed=allowed,
        bound=bound,
        alive=_shares(shelves, device),
        biases=_shares(biases, device),
        few_biases=_few_biases(rows, num_levels, device),
        quota=_quota([query.diversity for query in queries], device),
    )
    return rules, rows


def _row_rules(inventory: Inventory, query: Query) -> RowRules:
    allow, deny = query.allow, query.deny
    shelf = inventory.listed(query.where, allow, deny)
    if shelf is None:
        shelf = inventory.shelf(query.where)
    else:  # the lists are in it
        allow, deny = None, ()
    seen = query.history if query.exclude_seen else ()
    closed = np.array(sorted({*seen, *deny}), dtype=np.int64)
    allowed = None
    if allow is not None:
        allowed = np.unique(np.asarray(allow, dtype=np.int64))
        allowed = allowed[~_among(allowed, closed)]
        allowed = allowed if shelf is None else allowed[shelf.items[allowed]]
    biases = inventory.biases(query.boosts, query.where)
    return RowRules(shelf, closed, allowed, biases, query.diversity)


def _nodes(inventory: Inventory, row: RowRules) -> _Nodes:
    leaves, ancestry = inventory.sids.leaves, inventory.ancestry
    if row.allowed is not None:
        open_leaves = np.unique(leaves.of_item[row.allowed]).astype(np.int64)
        nothing: list[Ints] = [np.empty(0, dtype=np.int64)] * inventory.sids.num_levels
        return _Nodes(nothing, ancestry.nodes_above(open_leaves))
    open_items = None if row.shelf is None else row.shelf.items
    dead = dead_leaves(row.closed, leaves, open_items)
    alive = None if row.shelf is None else row.shelf.marks
    return _Nodes(ancestry.dead_nodes(dead, alive), None)


def _shares(
    of_rows: Sequence[tuple[Tensor, ...] | None], device: torch.device
) -> tuple[Share, ...]:
    """Each distinct object once, with the rows that have it."""
    rows_of: dict[int, list[int]] = {}
    for row, levels in enumerate(of_rows):
        if levels is not None:
            rows_of.setdefault(id(levels), []).append(row)
    shares = []
    for rows in rows_of.values():
        levels = of_rows[rows[0]]
        assert levels is not None
        everyone = len(rows) == len(of_rows)
        shares.append(Share(None if everyone else torch.tensor(rows, device=device), levels))
    return tuple(shares)


def _few_biases(
    rows: Sequence[RowRules], num_levels: int, device: torch.device
) -> NodeNumbers | None:
    few = [row.biases.nodes if isinstance(row.biases, FewBiases) else None for row in rows]
    if not any(few):
        return None
    nothing = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))] * num_levels
    return NodeNumbers.from_rows([nothing if each is None else each for each in few], device)


def _quota(diversities: Sequence[Diversity | None], device: torch.device) -> Quota | None:
    if not any(diversities):
        return None
    most = [0 if each is None else each.max_items for each in diversities]
    lengths = [0 if each is None else each.prefix_length for each in diversities]
    return Quota(*(torch.tensor(x, device=device)[:, None] for x in (most, lengths)))
