"""What a trained model has to beat: three recommenders that count, and SASRec from a library.

Shape words: num_examples, num_items. Each is fitted on training histories alone and scores every
item of the catalog; seen items stay candidates unless asked otherwise.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from training.dataset import Histories, ItemIndices
from training.evaluation_config import BaselineName, SasrecConfig
from training.metrics import Floats
from training.sasrec import Sasrec
from training.splits import Examples, Split

MAX_SCORES = 8_000_000  # scores held at once, 64 MB


class Baseline(Protocol):
    """Anything that scores all items for each example."""

    def scores(self, examples: Examples) -> Floats:
        """(num_examples, num_items) float64, higher is better; every history has an item."""
        ...


@dataclass(frozen=True)
class Popularity:
    """The same answer for everybody: training interactions per item."""

    counts: Floats

    @classmethod
    def fit(cls, train: Histories, num_items: int) -> "Popularity":
        """Count."""
        return cls(train.popularity(num_items).astype(np.float64))

    def scores(self, examples: Examples) -> Floats:
        """See Baseline."""
        return np.broadcast_to(self.counts, (len(examples), len(self.counts)))


@dataclass(frozen=True)
class Transitions:
    """How often an item came right after the user's last one; equals in order of popularity.

    Args:
        counts: (num_items, num_items): row = the item before.
        tie_break: (num_items,) in [0, 1).
    """

    counts: csr_array
    tie_break: Floats

    @classmethod
    def fit(cls, train: Histories, num_items: int) -> "Transitions":
        """Count the steps of all histories."""
        step = train.user_of[:-1] == train.user_of[1:]
        before, after = train.items[:-1][step], train.items[1:][step]
        popularity = train.popularity(num_items).astype(np.float64)
        counts = csr_array((np.ones(len(before)), (before, after)), shape=(num_items, num_items))
        return cls(counts, popularity / (popularity.max() + 1))

    def scores(self, examples: Examples) -> Floats:
        """See Baseline."""
        histories = examples.histories()
        last = histories.items[histories.offsets[1:] - 1]
        found: Floats = self.counts[last].toarray() + self.tie_break
        return found


@dataclass(frozen=True)
class ItemKnn:
    """Similarity to the items of the history, recent ones first.

    Args:
        similarity: (num_items, num_items): cosine of two items' sets of training users.
        decay: weight of an item relative to the one after it.
    """

    similarity: csr_array
    decay: float

    @classmethod
    def fit(cls, train: Histories, num_items: int, *, decay: float = 0.8) -> "ItemKnn":
        """Compare the columns of the user-item matrix; an item is not its own neighbour."""
        shape = (len(train), num_items)
        seen = csr_array((np.ones(len(train.items)), (train.user_of, train.items)), shape=shape)
        seen.sum_duplicates()
        seen.data[:] = 1.0
        both = csr_array(seen.T @ seen).tocoo()
        users = np.maximum(np.asarray(seen.sum(axis=0)), 1.0)
        cosine = both.data / np.sqrt(users[both.row] * users[both.col])
        cosine[both.row == both.col] = 0.0
        return cls(csr_array((cosine, (both.row, both.col)), shape=both.shape), decay)

    def scores(self, examples: Examples) -> Floats:
        """See Baseline."""
        histories = examples.histories()
        rows = histories.user_of
        age = histories.offsets[rows + 1] - 1 - np.arange(len(rows))
        shape = (len(examples), self.similarity.shape[0])
        weights = csr_array((self.decay**age, (rows, histories.items)), shape=shape)
        found: Floats = csr_array(weights @ self.similarity).toarray()
        return found


@dataclass(frozen=True)
class BaselineResult:
    """One baseline over some examples.

    Args:
        ranks: (num_examples,) mean rank of the target among the items tied with it, from 1; inf
            where the target is excluded as seen.
        recommended: (num_examples, limit) int32, best first, ties by item index; -1 where short.
    """

    ranks: Floats
    recommended: ItemIndices


def fit_baseline(
    name: BaselineName, split: Split, num_items: int, sasrec: SasrecConfig
) -> Baseline:
    """A baseline by the name it has in recipes and reports.

    Raises:
        ModelError: the library that SASRec comes from is not installed.
    """
    match name:
        case "popularity":
            return Popularity.fit(split.train, num_items)
        case "transitions":
            return Transitions.fit(split.train, num_items)
        case "item-knn":
            return ItemKnn.fit(split.train, num_items)
        case "sasrec":
            return Sasrec.fit(split, num_items, sasrec)


def evaluate_baseline(
    baseline: Baseline,
    examples: Examples,
    num_items: int,
    *,
    limit: int,
    exclude_seen: bool = False,
) -> BaselineResult:
    """Rank all items for each example, a block of examples at a time."""
    limit = min(limit, num_items)
    block = max(1, MAX_SCORES // num_items)
    ranks, lists = [np.empty(0)], [np.empty((0, limit), dtype=np.int32)]
    for start in range(0, len(examples), block):
        part = examples.take(np.arange(start, min(start + block, len(examples))))
        scores = baseline.scores(part)
        if exclude_seen:
            seen, scores = part.histories(), scores.copy()
            scores[seen.user_of, seen.items] = -np.inf
        ranks.append(mean_ranks(scores, part.targets))
        lists.append(top_items(scores, limit))
    return BaselineResult(np.concatenate(ranks), np.concatenate(lists))


def mean_ranks(scores: Floats, targets: ItemIndices) -> Floats:
    """(num_examples,): the target's mean rank among its equals, from 1; inf if it scores -inf."""
    own = np.take_along_axis(scores, targets[:, None].astype(np.int64), axis=1)
    ranks = (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) + 1) / 2
    return np.where(own[:, 0] == -np.inf, np.inf, ranks)


def top_items(scores: Floats, limit: int) -> ItemIndices:
    """(num_examples, limit): the best items, ties by item index; -1 in place of a score of -inf."""
    weakest = np.partition(scores, scores.shape[1] - limit, axis=1)[:, -limit][:, None]
    better, tied = scores > weakest, scores == weakest
    room = limit - better.sum(axis=1, keepdims=True)
    chosen = better | (tied & (np.cumsum(tied, axis=1) <= room))
    items = np.nonzero(chosen)[1].reshape(len(scores), limit)
    values = np.take_along_axis(scores, items, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    best = np.where(values == -np.inf, -1, items)
    found: npt.NDArray[np.int32] = np.take_along_axis(best, order, axis=1).astype(np.int32)
    return found
