"""Sliding windows over training histories, as batches that are a pure function of the step.

A window is a stretch of one history and what came next. Windows of like lengths share a batch of a
fixed token budget, so little is padded. Because batch `step` depends on the seed and the step
alone, an interrupted training goes on with exactly the batches it would have seen.
Shape words: windows (rows of a batch), seq, steps (next item, then MAP's further ones), levels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from model.config import ModelConfig
from model.semantic_id import SidTable
from training.dataset import Histories

Rows = npt.NDArray[np.int64]

SORTED_AT_ONCE = 64  # batches whose windows are sorted by length together


class Batch(NamedTuple):
    """What one training step reads.

    tokens: (windows, seq) int64; mask: (windows, seq) bool, True = real token;
    targets: (windows, steps, levels) int64 codes; exists: (windows, steps) bool.
    """

    tokens: Tensor
    mask: Tensor
    targets: Tensor
    exists: Tensor


class Windows:
    """Every position of every training history that has something before it."""

    def __init__(
        self, histories: Histories, sids: SidTable, config: ModelConfig, num_future_items: int
    ) -> None:
        """Count the windows; nothing is copied.

        Args:
            histories: the training part only.
            sids: of every item.
            config: how much history is read, and how items become tokens.
            num_future_items: MAP's further targets.
        """
        self.histories, self.sids, self.config = histories, sids, config
        self.num_future_items = num_future_items
        is_first = np.zeros(len(histories.items), dtype=bool)
        is_first[histories.offsets[:-1][histories.lengths > 0]] = True
        self.targets = np.flatnonzero(~is_first)
        """(windows,): row of `histories.items` that holds the next item."""
        users = histories.user_of[self.targets]
        self.ends = histories.offsets[users + 1]
        """(windows,): where the window's history ends in `histories.items`."""
        before = self.targets - histories.offsets[users]
        self.lengths = np.minimum(before, config.max_history_items)
        """(windows,): items of history that each window reads."""

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Rows) -> Batch:
        """Build the batch of some windows."""
        items, targets, lengths = self.histories.items, self.targets[rows], self.lengths[rows]
        histories = [
            items[target - length : target].tolist()
            for target, length in zip(targets, lengths, strict=True)
        ]
        tokens, mask = self.sids.pack(
            histories, separator=self.config.separator, num_items=int(lengths.max())
        )
        wanted = targets[:, None] + np.arange(1 + self.num_future_items)
        exists = wanted < self.ends[rows][:, None]
        codes = self.sids.codes[items[np.minimum(wanted, len(items) - 1)]]
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(mask),
            torch.from_numpy(codes.astype(np.int64)),
            torch.from_numpy(exists),
        )


class BatchStream(IterableDataset[Batch]):
    """Endless batches, epoch after epoch, starting at any step.

    Args:
        windows: what to draw from.
        batch_tokens: budget of padded history tokens of one batch.
        seed: decides the order.
        first_step: the step of the first batch; 0 unless a training goes on.
    """

    def __init__(
        self, windows: Windows, batch_tokens: int, seed: int, *, first_step: int = 0
    ) -> None:
        self.windows = windows
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.first_step = first_step

    def __iter__(self) -> Iterator[Batch]:
        epoch, skip = 0, self.first_step
        while True:
            plan = self.plan(epoch)
            for rows in plan[skip:]:
                yield self.windows.batch(rows)
            skip = max(0, skip - len(plan))
            epoch += 1

    def plan(self, epoch: int) -> list[Rows]:
        """The batches of an epoch, each a set of window numbers; every window occurs once."""
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.windows))
        widest = self.windows.config.max_history_items * self.windows.config.tokens_per_item
        together = SORTED_AT_ONCE * max(1, self.batch_tokens // widest)
        batches: list[Rows] = []
        for start in range(0, len(order), together):
            chunk = order[start : start + together]
            chunk = chunk[np.argsort(self.windows.lengths[chunk], kind="stable")]
            batches += self._cut(chunk)
        return [batches[place] for place in random.permutation(len(batches))]

    def _cut(self, rows: Rows) -> list[Rows]:
        """Cut windows in ascending order of length into batches within the budget."""
        cost = self.windows.lengths[rows] * self.windows.config.tokens_per_item
        cuts, start = [], 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or (end + 1 - start) * cost[end] > self.batch_tokens:
                cuts.append(rows[start:end])
                start = end
        return cuts
