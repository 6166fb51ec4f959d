"""What a training step of each variant costs, on the windows of the data that it is trained on.

All variants of a recipe take the same windows, in two layouts: `padded` to the longest history that
the model reads, in random order, as the papers' programs do; and `unpadded`, like lengths together,
as ours does. Costs are those of the last stage, whose layout has to be "answer".
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.backbone import Backbone
from model.memory import keep_freed_memory
from model.multi_step import FutureHeads, training_loss
from model.semantic_id import PAD
from training.config import TrainerConfig
from training.cost import bytes_saved_for_backward, interleaved_seconds
from training.experiment import Cell
from training.experiment_run import run_of
from training.trainer import build_model
from training.windows import Batch, BatchStream, Rows, Source, source_for

NUM_WINDOWS = 128
LAYOUTS = ("padded", "unpadded")


class Cost(BaseModel, frozen=True, extra="forbid"):
    """Per window: milliseconds of forward and backward, megabytes held in between."""

    variant: tuple[str, ...]
    layout: str
    train_ms: float
    activation_mb: float


@dataclass(frozen=True)
class Job:
    """A variant's model and the batches it works through."""

    model: Backbone
    heads: FutureHeads
    settings: TrainerConfig
    batches: list[Batch]

    def losses(self) -> Iterator[Tensor]:
        """The loss of each batch."""
        self.model.train()
        weights = self.settings.future_weights(self.model.config.num_levels, 0)
        for batch in self.batches:
            loss, _ = training_loss(
                self.model,
                self.heads,
                *batch,
                weights,
                self.settings.auxiliary,
                self.settings.retention_ratio,
            )
            yield loss

    def train(self) -> None:
        """Forward and backward of every batch."""
        parts: list[nn.Module] = [self.model, self.heads]
        for loss in self.losses():
            for part in parts:
                part.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]

    def activation_bytes(self) -> int:
        """What autograd holds from forward to backward, over all batches."""
        owned = [*self.model.parameters(), *self.model.buffers(), *self.heads.parameters()]
        return bytes_saved_for_backward(lambda: torch.stack(list(self.losses())).sum(), owned)


def measure_costs(
    cells: Mapping[tuple[str, ...], Cell], folder: Path, budget_s: float, min_rounds: int = 3
) -> list[Cost]:
    """The costs of a recipe's variants, in interleaved rounds on one thread.

    Args:
        cells: one per variant, all of one recipe.
        folder: the experiment's.
        budget_s: for the rounds.
        min_rounds: however long they take.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    jobs = {
        (variant, layout): _job(cell, folder, layout)
        for variant, cell in cells.items()
        for layout in LAYOUTS
    }
    works: dict[tuple[tuple[str, ...], str], Callable[[], None]] = {
        key: job.train for key, job in jobs.items()
    }
    seconds = interleaved_seconds(works, budget_s, min_rounds)
    return [
        Cost(
            variant=variant,
            layout=layout,
            train_ms=1e3 * seconds[variant, layout] / NUM_WINDOWS,
            activation_mb=job.activation_bytes() / 1e6 / NUM_WINDOWS,
        )
        for (variant, layout), job in jobs.items()
    ]


def _job(cell: Cell, folder: Path, layout: str) -> Job:
    run, settings = run_of(cell, folder), cell.recipe.trainer
    split = run.split()
    semantics = run.read_semantics(run.catalog(split).popularity)
    shape = cell.recipe.model_config_for(semantics.sids.codebook_sizes)
    model = build_model(shape, settings, semantics.placement.codebooks)
    source = source_for(settings, split.train, semantics.sids, shape)
    spans = source.spans(np.random.default_rng(0))
    chosen = np.random.default_rng(0).choice(len(spans), NUM_WINDOWS)
    heads = FutureHeads(shape.d_model, settings.num_heads(shape.num_levels))
    cut = _padded if layout == "padded" else _unpadded
    return Job(model, heads, settings, cut(source, spans[chosen], settings.batch_tokens))


def _unpadded(source: Source, spans: Rows, batch_tokens: int) -> list[Batch]:
    """As training cuts them."""
    return [source.batch(part) for part in BatchStream(source, batch_tokens, 0).cut(spans)]


def _padded(source: Source, spans: Rows, batch_tokens: int) -> list[Batch]:
    """In the order given, all as long as the longest window there can be."""
    width = source.max_items * source.config.tokens_per_item
    rows = max(1, batch_tokens // width)
    batches = [source.batch(spans[start : start + rows]) for start in range(0, len(spans), rows)]
    return [
        batch._replace(
            tokens=F.pad(batch.tokens, (0, width - batch.tokens.shape[1]), value=PAD),
            mask=F.pad(batch.mask, (0, width - batch.mask.shape[1]), value=False),
        )
        for batch in batches
    ]
