"""How good a list of recommendations is: pure functions on ranks; a user has one relevant item.

A rank counts from 1 and is inf where the target was not found. It may be the mean rank of tied
items: one tied for the places 10 and 11 has rank 10.5 and counts as a hit at 10. Per-user values
come back, so that a mean, a subset or an interval is one call away.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

MAX_RESAMPLED = 4_000_000  # values drawn at once by bootstrap_interval


def ranks_in_lists(recommended: Ints, targets: Ints) -> Floats:
    """Where each target stands in its list.

    Args:
        recommended: (num_users, limit) item indices, best first; -1 where the list is short.
        targets: (num_users,) item indices.

    Returns:
        (num_users,) ranks from 1, inf for a target that is not in the list.
    """
    hits = recommended == targets[:, None]
    if hits.shape[1] == 0:
        return np.full(len(targets), np.inf)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, np.inf)


def recall_at_k(ranks: Floats, k: int) -> Floats:
    """(num_users,): 1 where the target is among the first k, else 0."""
    return (ranks < k + 1).astype(np.float64)


def ndcg_at_k(ranks: Floats, k: int) -> Floats:
    """(num_users,): 1 / log2(rank + 1) where the target is among the first k, else 0."""
    return np.where(ranks < k + 1, 1.0 / np.log2(ranks + 1.0), 0.0)


def coverage_at_k(recommended: Ints, num_items: int, k: int) -> float:
    """Share of the catalog that is in anybody's first k; -1 in a short list is no item."""
    shown = np.unique(recommended[:, :k])
    return float((shown >= 0).sum() / num_items)


def bootstrap_interval(
    values: Floats,
    generator: np.random.Generator,
    *,
    num_samples: int = 1000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of the mean over users, by resampling users with replacement.

    Pass the differences of two systems on the same users for an interval of their difference.
    """
    rows = max(1, MAX_RESAMPLED // len(values))
    means = np.concatenate(
        [
            values[
                generator.integers(0, len(values), (min(rows, num_samples - done), len(values)))
            ].mean(axis=1)
            for done in range(0, num_samples, rows)
        ]
    )
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)
