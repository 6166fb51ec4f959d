"""What the pruning benchmark runs: two models, and batches of histories with or without padding.

Shape words: rows (of a batch), items (of a history), seq, steps, levels.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model.backbone import Backbone
from model.bundle import new_model
from model.config import ModelConfig, PruningConfig, QwenConfig, T5Config
from model.multi_step import FutureHeads, training_loss
from model.semantic_id import PAD

LEVELS = (256,) * 4
MOST_ITEMS = 100
FUTURE_WEIGHTS = (0.3, 0.3)

SHAPES: dict[str, T5Config | QwenConfig] = {
    # TIGER's: 4 + 4 blocks x 128, 6 heads of 64.
    "t5": T5Config(
        codebook_sizes=LEVELS, max_history_items=MOST_ITEMS, pruning=PruningConfig(layer=1)
    ),
    # Qwen2.5-0.5B's 24 blocks and proportions, a seventh as wide.
    "qwen24": QwenConfig(
        codebook_sizes=LEVELS,
        max_history_items=MOST_ITEMS,
        num_layers=24,
        num_heads=4,
        num_kv_heads=2,
        d_kv=32,
        d_ff=704,
        qk_norm=False,
        attention_bias=True,
        pruning=PruningConfig(layer=6),
    ),
}

BEAUTY_LENGTHS = (4, 4, 4, 4, 4, 5, 5, 5, 6, 6, 7, 8, 9, 11, 14, 25)
"""Items before the last one of Amazon Beauty's 22,363 users: 16 quantiles, from 1/32 to 31/32."""


class Batch(NamedTuple):
    """What one training step reads; see `training_loss` for the shapes."""

    tokens: Tensor
    mask: Tensor
    targets: Tensor
    exists: Tensor


@dataclass(frozen=True)
class Job:
    """A model and the batches it works through, in training or in serving."""

    model: Backbone
    heads: FutureHeads
    batches: tuple[Batch, ...]

    def losses(self) -> Iterator[Tensor]:
        """The training loss of each batch."""
        self.model.train()
        for batch in self.batches:
            loss, _ = training_loss(self.model, self.heads, *batch, FUTURE_WEIGHTS)
            yield loss

    def loss(self) -> Tensor:
        """The sum of all batches' losses."""
        return torch.stack(list(self.losses())).sum()

    def train(self) -> None:
        """Forward and backward of every batch: a training step without its optimizer."""
        for loss in self.losses():
            self.model.zero_grad(set_to_none=True)
            self.heads.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def encode(self) -> None:
        """Read every history once, as serving does before it decodes."""
        self.model.eval()
        for batch in self.batches:
            self.model.prompt(batch.tokens, batch.mask)

    def owned(self) -> list[Tensor]:
        """Parameters and buffers."""
        return [*self.model.parameters(), *self.model.buffers(), *self.heads.parameters()]


def job(
    config: T5Config | QwenConfig,
    lengths: Sequence[Sequence[int]],
    *,
    pad_to: int = 0,
    device: str = "cpu",
) -> Job:
    """An untrained model with random histories; the same weights for every pruning.

    Args:
        config: of the model, pruning included.
        lengths: per batch, the items of each row.
        pad_to: pad rows to so many items; 0 = to the batch's longest.
        device: "meta" to count without computing.
    """
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        model = new_model(config)
        heads = FutureHeads(config.d_model, len(FUTURE_WEIGHTS))
        batches = [
            _batch(config, model.first_tokens, rows, pad_to or max(rows)) for rows in lengths
        ]
    return Job(model, heads, tuple(batches))


def bucketed(lengths: Sequence[int]) -> list[list[int]]:
    """Batches without padding: histories of equal length together."""
    return [[length] * rows for length, rows in sorted(Counter(lengths).items())]


def with_ratio(config: T5Config | QwenConfig, ratio: float) -> T5Config | QwenConfig:
    """The same model, keeping another share of its tokens; 1 = no pruning."""
    assert config.pruning is not None
    pruning = config.pruning.model_copy(update={"retention_ratio": ratio})
    return config.model_copy(update={"pruning": pruning})


def with_rastp(config: T5Config | QwenConfig) -> T5Config | QwenConfig:
    """The same model, pruned at its layer as RASTP's authors do."""
    assert config.pruning is not None
    pruning = PruningConfig.rastp().model_copy(update={"layer": config.pruning.layer})
    return config.model_copy(update={"pruning": pruning})


def _batch(config: ModelConfig, first_tokens: Tensor, lengths: Sequence[int], pad_to: int) -> Batch:
    rows, steps = len(lengths), 1 + len(FUTURE_WEIGHTS)
    seq = pad_to * config.tokens_per_item
    real = torch.tensor(lengths) * config.tokens_per_item
    mask = torch.arange(seq) < real[:, None]
    codes = torch.stack(
        [torch.randint(size, (rows, pad_to + steps)) for size in config.codebook_sizes], dim=2
    )
    tokens = (codes[:, :pad_to] + first_tokens).flatten(1).masked_fill(~mask, PAD)
    return Batch(tokens, mask, codes[:, pad_to:], torch.ones(rows, steps, dtype=torch.bool))
