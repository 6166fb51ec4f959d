"""NodeSets and shares: what one row is told, no other row hears."""

import numpy as np
import torch

from model.rules import NO_NODE, NodeNumbers, NodeSets, Share


def test_sets_differ_by_row() -> None:
    """Each row of a batch closes its own nodes and nobody else's."""
    rows = [[np.array([0, 2])], [np.array([], dtype=np.int64)]]
    sets = NodeSets.from_rows(rows, num_levels=1)

    found = sets.contain(0, torch.tensor([[0, 1, 2], [0, 1, 2]]))

    assert found is not None
    assert found.tolist() == [[True, False, True], [False, False, False]]
    assert sets.nodes[0].tolist() == [[0, 2], [NO_NODE, NO_NODE]]


def test_a_level_without_members_costs_nothing() -> None:
    """No row's set has a member: there is no mask to apply."""
    sets = NodeSets.from_rows([[np.array([], dtype=np.int64)]], num_levels=1)

    assert sets.contain(0, torch.zeros(1, 1, dtype=torch.int64)) is None


def test_a_share_speaks_to_its_rows_alone() -> None:
    """Rows that do not share get the neutral value."""
    share = Share(torch.tensor([1]), (torch.tensor([5.0, 7.0]),))

    found = share.look_up(0, torch.tensor([[0, 1], [1, 0]]), otherwise=0.0)

    assert found.tolist() == [[0.0, 0.0], [7.0, 5.0]]


def test_numbers_of_a_few_nodes_differ_by_row() -> None:
    """Each row hears its own; all other nodes have 0, also where a row has none at all."""
    few = [(np.array([1, 4]), np.array([5, -2], dtype=np.float32))]
    none = [(np.array([], dtype=np.int64), np.array([], dtype=np.float32))]
    numbers = NodeNumbers.from_rows([few, none], "cpu")

    found = numbers.look_up(0, torch.tensor([[0, 1, 4], [0, 1, 4]]))

    assert found.tolist() == [[0.0, 5.0, -2.0], [0.0, 0.0, 0.0]]


def test_rows_without_numbers_have_zero() -> None:
    """A level where nobody has any."""
    none = [(np.array([], dtype=np.int64), np.array([], dtype=np.float32))]

    found = NodeNumbers.from_rows([none, none], "cpu").look_up(0, torch.tensor([[3], [4]]))

    assert found.tolist() == [[0.0], [0.0]]
