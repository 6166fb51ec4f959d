"""Codes that hold no more than their share, at little more than the least cost."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from training.balance import TOLERANCE, balanced_codes


def random_costs(num_items: int, num_codes: int, seed: int) -> npt.NDArray[np.float32]:
    """Costs of one decimal, so that some are equal."""
    random = np.random.default_rng(seed)
    return random.normal(size=(num_items, num_codes)).round(1).astype(np.float32)


def cost_of(costs: npt.NDArray[np.float32], codes: npt.NDArray[np.int64]) -> float:
    """The total that an assignment costs."""
    return float(np.take_along_axis(costs, codes[:, None], axis=1).sum())


sizes = {"num_items": st.integers(1, 40), "num_codes": st.integers(1, 9)}


@settings(deadline=None, max_examples=80)
@given(**sizes, load=st.floats(1, 3), seed=st.integers(0, 2**16))
def test_no_code_holds_more_than_its_capacity(
    num_items: int, num_codes: int, load: float, seed: int
) -> None:
    """Every item has a code, whatever the costs."""
    capacity = math.ceil(load * num_items / num_codes)

    codes = balanced_codes(random_costs(num_items, num_codes, seed), capacity)

    assert codes.min() >= 0
    assert np.bincount(codes, minlength=num_codes).max() <= capacity


@settings(deadline=None, max_examples=80)
@given(**sizes, seed=st.integers(0, 2**16))
def test_the_total_is_close_to_the_least_possible(
    num_items: int, num_codes: int, seed: int
) -> None:
    """Within epsilon per item of the optimum, found by the Hungarian method on single places."""
    costs = random_costs(num_items, num_codes, seed)
    capacity = math.ceil(num_items / num_codes)

    codes = balanced_codes(costs, capacity)

    places = np.repeat(costs, capacity, axis=1)
    least = places[linear_sum_assignment(places)].sum()
    epsilon = TOLERANCE * (costs - costs.min(axis=1, keepdims=True)).mean()
    assert cost_of(costs, codes) <= least + num_items * epsilon + 1e-4


@settings(deadline=None, max_examples=40)
@given(**sizes, seed=st.integers(0, 2**16))
def test_where_all_fit_every_item_has_its_cheapest_code(
    num_items: int, num_codes: int, seed: int
) -> None:
    """A loose capacity changes nothing."""
    costs = random_costs(num_items, num_codes, seed)

    np.testing.assert_array_equal(balanced_codes(costs, num_items), costs.argmin(axis=1))


@pytest.mark.parametrize("level", [0.0, 1e8])
def test_items_that_cost_the_same_everywhere_are_spread(level: float) -> None:
    """Equal costs of any size end, and the first items come first."""
    codes = balanced_codes(np.full((10, 4), level, dtype=np.float32), 3)

    assert sorted(np.bincount(codes)) == [1, 3, 3, 3]
    assert codes[:3].tolist() == [0, 0, 0]


def test_the_item_that_loses_most_keeps_its_code() -> None:
    """Both want code 0; the second would pay 9 elsewhere, the first 1."""
    costs = np.array([[0, 1], [0, 9]], dtype=np.float32)

    assert balanced_codes(costs, 1).tolist() == [1, 0]
