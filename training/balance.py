"""Giving items codes of which none may hold more than its share.

An auction (Bertsekas and Castanon, Annals of Operations Research 1989): an item without a code bids
for the one that is cheapest at the current prices, by as much as that is better than the second; a
code keeps its highest bids, and once it is full its price is the lowest of them. A bid is at least
epsilon above the price, and the total cost ends within num_items * epsilon of the least possible.

Shape words: num_items, num_codes.
"""

import numpy as np
import numpy.typing as npt

Costs = npt.NDArray[np.float32]
Chosen = npt.NDArray[np.int64]

TOLERANCE = 0.01
"""Epsilon, as a share of how far an item's nearest code lies below its mean code."""


def balanced_codes(costs: Costs, capacity: int, tolerance: float = TOLERANCE) -> Chosen:
    """(num_items,): a code each, none more often than `capacity`; the cheapest where all fit.

    Equal bids are served in the order of the items, so the result is the same on every run. The
    table of costs is in memory twice. A round costs bidders x codes; the tighter the capacity, the
    more rounds, most of them with a few bidders.

    Args:
        costs: (num_items, num_codes) float32, finite.
        capacity: at least num_items / num_codes.
        tolerance: a smaller one comes closer to the least total cost, in more rounds.
    """
    num_items, num_codes = costs.shape
    assert capacity * num_codes >= num_items
    above = costs - costs.min(axis=1, keepdims=True)
    epsilon = tolerance * max(float(above.mean()), 1e-9)
    codes = np.full(num_items, -1, dtype=np.int64)
    bids = np.zeros(num_items)
    prices = np.zeros(num_codes)
    bidders = np.arange(num_items)
    while bidders.size:
        wanted, offers = _offers(above[bidders] + prices)
        codes[bidders], bids[bidders] = wanted, prices[wanted] + offers + epsilon
        bidders = _settle(np.unique(wanted), codes, bids, prices, capacity)
    return codes


def _offers(costs: npt.NDArray[np.float64]) -> tuple[Chosen, npt.NDArray[np.float64]]:
    """Each row's cheapest column, and how much cheaper it is than the second."""
    rows = np.arange(len(costs))
    best = costs.argmin(axis=1)
    lowest = costs[rows, best]
    if costs.shape[1] == 1:
        return best, np.zeros(len(costs))
    costs[rows, best] = np.inf
    return best, costs.min(axis=1) - lowest


def _settle(
    contested: Chosen,
    codes: Chosen,
    bids: npt.NDArray[np.float64],
    prices: npt.NDArray[np.float64],
    capacity: int,
) -> Chosen:
    """Keep the highest bids of each contested code, set its price; return who is left without."""
    is_contested = np.zeros(len(prices), dtype=bool)
    is_contested[contested] = True
    held = np.flatnonzero((codes >= 0) & is_contested[codes])
    held = held[np.lexsort((held, -bids[held], codes[held]))]
    sizes = np.bincount(codes[held], minlength=len(prices))
    first = np.cumsum(sizes) - sizes
    rank = np.arange(len(held)) - first[codes[held]]
    full = contested[sizes[contested] >= capacity]
    prices[full] = bids[held[first[full] + capacity - 1]]
    left = held[rank >= capacity]
    codes[left] = -1
    return np.sort(left)
