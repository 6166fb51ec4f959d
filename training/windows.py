"""What training steps read: numbered batches, `accumulate` of them a step.

A *span* is a stretch of one training history, given by its first row and the row behind its last
in `Histories.items`. `Windows` (layout "answer") makes every stretch that something follows one
example; `Chunks` (layout "dense") cuts each history up and predicts at every item. Spans of like
lengths share a batch of a fixed token budget, so little is padded. Because a batch depends on the
seed and its number alone, an interrupted training goes on with exactly the batches it would have
seen. Shape words: spans (rows of a batch), seq, items (of the longest span), steps (next item, then
MAP's further ones), levels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from model.config import ModelConfig
from model.semantic_id import SidTable
from training.config import TrainerConfig
from training.dataset import Histories

Rows = npt.NDArray[np.int64]

SORTED_AT_ONCE = 64  # batches whose spans are sorted by length together


class Batch(NamedTuple):
    """What is read at once; see model.multi_step for the two layouts.

    tokens: (spans, seq) int64; mask: (spans, seq) bool, True = real token;
    targets: (spans, steps, levels) int64 codes, dense (spans, items - 1, steps, levels);
    exists: bool, the shape of targets without levels.
    """

    tokens: Tensor
    mask: Tensor
    targets: Tensor
    exists: Tensor


class Source(ABC):
    """Training histories, and what may be read of them at once."""

    def __init__(
        self, histories: Histories, sids: SidTable, config: ModelConfig, num_future_items: int
    ) -> None:
        """Nothing is copied.

        Args:
            histories: the training part only.
            sids: of every item.
            config: how much history is read, and how items become tokens.
            num_future_items: MAP's further targets.
        """
        self.histories, self.sids, self.config = histories, sids, config
        self.num_future_items = num_future_items
        self.user_of = histories.user_of

    @property
    @abstractmethod
    def max_items(self) -> int:
        """Items of the longest span there can be."""

    @abstractmethod
    def spans(self, random: np.random.Generator) -> Rows:
        """(spans, 2): first row and end of every span of one epoch."""

    @abstractmethod
    def batch(self, spans: Rows) -> Batch:
        """Build the batch of some spans."""

    def _pack(self, spans: Rows) -> tuple[Tensor, Tensor]:
        """The spans' tokens and mask."""
        items = self.histories.items
        tokens, mask = self.sids.pack(
            [items[first:end].tolist() for first, end in spans],
            separator=self.config.separator,
            num_items=int((spans[:, 1] - spans[:, 0]).max()),
        )
        return torch.from_numpy(tokens), torch.from_numpy(mask)

    def _targets(self, rows: Rows, ends: Rows) -> tuple[Tensor, Tensor]:
        """Codes of the item in each row and of those after it, and which of them exist.

        Args:
            rows: of `histories.items`, any shape.
            ends: same shape; where each history ends.
        """
        items = self.histories.items
        wanted = rows[..., None] + np.arange(1 + self.num_future_items)
        codes = self.sids.codes[items[np.minimum(wanted, len(items) - 1)]]
        return torch.from_numpy(codes.astype(np.int64)), torch.from_numpy(wanted < ends[..., None])


class Windows(Source):
    """Every position of every training history that has something before it."""

    @property
    def max_items(self) -> int:
        """What the model reads."""
        return self.config.max_history_items

    def spans(self, _: np.random.Generator | None = None) -> Rows:
        """The newest items before each position; the same every epoch."""
        begins = self.histories.offsets[self.user_of]
        targets = np.flatnonzero(np.arange(len(self.user_of)) > begins)
        firsts = np.maximum(begins[targets], targets - self.max_items)
        return np.stack((firsts, targets), axis=1)

    def batch(self, spans: Rows) -> Batch:
        """Each span as a prompt; its answer is the item behind it."""
        targets = spans[:, 1]
        ends = self.histories.offsets[self.user_of[targets] + 1]
        return Batch(*self._pack(spans), *self._targets(targets, ends))


class Chunks(Source):
    """Whole training histories, cut into stretches that overlap by one item.

    Every item but a history's first is the next item of exactly one place of one chunk. A history
    longer than a chunk is cut at other items in every epoch, so an item that had little before it
    in one epoch has more in another.
    """

    @property
    def max_items(self) -> int:
        """What the model reads, and the next item after it."""
        return self.config.max_history_items + 1

    def spans(self, random: np.random.Generator) -> Rows:
        """The chunks of an epoch, history by history."""
        stride = self.max_items - 1
        begins, lengths = self.histories.offsets[:-1], self.histories.lengths
        shifts = random.integers(stride, size=len(lengths)) * (lengths > self.max_items)
        counts = np.maximum(0, -((1 - lengths - shifts) // stride))
        user = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
        cuts = begins[user] - shifts[user] + place * stride
        firsts = np.maximum(cuts, begins[user])
        ends = np.minimum(cuts + self.max_items, self.histories.offsets[user + 1])
        return np.stack((firsts, ends), axis=1)

    def batch(self, spans: Rows) -> Batch:
        """Every item of a span but its first is predicted from those before it."""
        num_items = int((spans[:, 1] - spans[:, 0]).max())
        rows = spans[:, :1] + np.arange(1, num_items)
        ends = self.histories.offsets[self.user_of[spans[:, 0]] + 1]
        targets, exists = self._targets(rows, np.broadcast_to(ends[:, None], rows.shape))
        inside = torch.from_numpy(rows < spans[:, 1:])
        return Batch(*self._pack(spans), targets, exists & inside[..., None])


def source_for(
    settings: TrainerConfig, histories: Histories, sids: SidTable, config: ModelConfig
) -> Source:
    """What a stage of training reads, in its layout."""
    source = Chunks if settings.layout == "dense" else Windows
    further = settings.num_future_items if settings.auxiliary == "items" else 0
    return source(histories, sids, config, further)


class BatchStream(IterableDataset[Batch]):
    """Endless batches, epoch after epoch, starting at any of them.

    Args:
        source: what to draw from.
        batch_tokens: budget of padded history tokens of one batch.
        seed: decides the order.
        first: number of the first batch; 0 unless a training goes on.
        stride: take every so manieth batch, and leave the others to other processes.
    """

    def __init__(
        self, source: Source, batch_tokens: int, seed: int, *, first: int = 0, stride: int = 1
    ) -> None:
        self.source = source
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.first = first
        self.stride = stride

    def __iter__(self) -> Iterator[Batch]:
        epoch, place = 0, self.first  # of the next batch, counted from the epoch's first
        while True:
            plan = self.plan(epoch)
            while place < len(plan):
                yield self.source.batch(plan[place])
                place += self.stride
            place -= len(plan)
            epoch += 1

    def plan(self, epoch: int) -> list[Rows]:
        """The batches of an epoch, each (spans, 2); every span of the epoch occurs once."""
        random = np.random.default_rng((self.seed, epoch))
        spans = self.source.spans(random)
        spans = spans[random.permutation(len(spans))]
        widest = self.source.max_items * self.source.config.tokens_per_item
        together = SORTED_AT_ONCE * max(1, self.batch_tokens // widest)
        batches: list[Rows] = []
        for start in range(0, len(spans), together):
            batches += self.cut(spans[start : start + together])
        return [batches[place] for place in random.permutation(len(batches))]

    def cut(self, spans: Rows) -> list[Rows]:
        """Sort spans by length and cut them into batches within the budget."""
        lengths = spans[:, 1] - spans[:, 0]
        order = np.argsort(lengths, kind="stable")
        spans, cost = spans[order], lengths[order] * self.source.config.tokens_per_item
        cuts, start = [], 0
        for end in range(1, len(spans) + 1):
            if end == len(spans) or (end + 1 - start) * cost[end] > self.batch_tokens:
                cuts.append(spans[start:end])
                start = end
        return cuts
