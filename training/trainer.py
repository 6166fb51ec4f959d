"""The lightning module and its trainer: losses, optimiser, schedule, validation, resumption.

A step's batch and its dropout depend on the seed and the step alone, so a training that was killed
and goes on ends with the weights of one that was not.
"""

import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from model.backbone import Backbone
from model.bundle import Manifest, new_model
from model.catalog import Catalog
from model.config import AnyModelConfig, ModelConfig
from model.engine import Engine
from model.errors import ModelError
from model.huggingface import load_checkpoint
from model.multi_step import FutureHeads, training_loss
from model.qwen import Qwen
from training.checkpoints import (
    MONITOR,
    AfterValidation,
    best_checkpoint,
    newest,
    resume_checkpoint,
)
from training.config import TrainerConfig
from training.evaluate import recommend_lists
from training.metrics import ndcg_at_k, ranks_in_lists, recall_at_k
from training.optimizer import make_optimizer, rate_at
from training.processes import num_processes
from training.splits import Examples
from training.windows import Batch, BatchStream, Source

VALIDATION_BEAMS = 20


class StampModule(LightningModule):
    """A model with its heads in one stage of training, validated by the served decoder."""

    def __init__(
        self,
        model: Backbone,
        config: TrainerConfig,
        source: Source,
        valid: Examples,
        catalog: Catalog,
    ) -> None:
        super().__init__()
        self.model = model
        self.heads = FutureHeads(model.config.d_model, config.num_heads(model.config.num_levels))
        self.settings = config
        self.source = source
        self.valid = valid
        self.catalog = catalog
        self._losses: list[Tensor] = []  # of the batches of the step under way
        self._since, self._tokens = 0.0, 0

    def start_from(self, weights: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        """Take over the weights of an earlier stage, and those of its heads that have a place."""
        self.model.load_state_dict(dict(weights))
        own = self.heads.state_dict()
        fitting = {
            name: head
            for name, head in heads.items()
            if name in own and own[name].shape == head.shape
        }
        self.heads.load_state_dict(own | fitting)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """As the settings say; the rate changes at every step."""
        optimizer = make_optimizer(self.parameters(), self.settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_at(self.settings, step)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        """The batches that follow the steps already taken."""
        stream = BatchStream(
            self.source,
            self.settings.batch_tokens,
            self.settings.seed,
            first=self._batch_number(0),
            stride=self.trainer.world_size,
        )
        return DataLoader(stream, batch_size=None)

    def val_dataloader(self) -> DataLoader[int]:
        """One item: the validation is one pass over all its users."""
        return DataLoader(_Once(), batch_size=None)

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """L = L_next + MAP; the step's gradient is the mean over its batches."""
        place = number % self.trainer.accumulate_grad_batches
        torch.manual_seed(self.settings.seed * 1_000_003 + self._batch_number(place))
        levels = self.model.config.num_levels
        weights = self.settings.future_weights(levels, self.global_step)
        loss, next_item = training_loss(
            self.model,
            self.heads,
            *batch,
            weights,
            self.settings.auxiliary,
            self.settings.retention_ratio,
        )
        self._losses.append(torch.stack((loss, next_item)).detach())
        self._tokens += batch.mask.numel()
        if place == self.trainer.accumulate_grad_batches - 1:
            self._log_step()
        return loss

    def _batch_number(self, place: int) -> int:
        """The number of the batch at a place of this process's share of the step under way."""
        processes, rank = self.trainer.world_size, self.trainer.global_rank
        return self.global_step * self.settings.accumulate + place * processes + rank

    def _log_step(self) -> None:
        """The step's mean losses, and how fast the last ten steps were."""
        loss, next_item = torch.stack(self._losses).mean(dim=0)
        self._losses.clear()
        self.log("loss", loss, prog_bar=True, sync_dist=True)
        self.log("loss_next", next_item, sync_dist=True)
        if self.global_step % 10 == 0:
            now = time.perf_counter()
            if self._since:
                speed = self._tokens / (now - self._since)
                self.log("tokens_per_s", speed, prog_bar=True, sync_dist=True, reduce_fx="sum")
            self._since, self._tokens = now, 0

    def validation_step(self, _: int) -> None:
        """Recall and NDCG of the served decoder, found by the first process and told to all."""
        found = self._quality() if self.trainer.is_global_zero else {}
        for name, value in self.trainer.strategy.broadcast(found).items():
            self.log(name, value, prog_bar=name == MONITOR, batch_size=1)

    def _quality(self) -> dict[str, float]:
        """On the validation users, with SAP at the ratio of the training."""
        manifest, sids = _manifest(self.model.config), self.source.sids
        own = self.settings.retention_ratio or 1.0
        engine = Engine(manifest, self.model, sids, self.catalog, retention_ratios={1.0, own})
        ratio = 1.0 if self.settings.layout == "dense" else self.settings.retention_ratio
        with torch.autocast(self.device.type, enabled=False):  # float32, as served
            lists = recommend_lists(
                engine, self.valid, beam_width=VALIDATION_BEAMS, retention_ratio=ratio
            )
        ranks = ranks_in_lists(lists, self.valid.targets)
        return {
            MONITOR: float(recall_at_k(ranks, 10).mean()),
            "valid/ndcg@10": float(ndcg_at_k(ranks, 10).mean()),
        }


class _Once(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter((0,))


def _manifest(config: ModelConfig) -> Manifest:
    return Manifest(
        name="in-training",
        version="0",
        created_at="",
        model=config,
        training={},
        metrics={},
        sap_profile=(),
        files={},
    )


def build_model(
    config: AnyModelConfig,
    settings: TrainerConfig,
    codebooks: tuple[Tensor, ...],
    init_from: Path | None = None,
) -> Backbone:
    """A model with its first weights, a checkpoint's if `init_from` names its folder.

    Codes may start from their centroids, around what was the mean of all tokens in a checkpoint.
    """
    torch.manual_seed(settings.seed)
    model, center = new_model(config), torch.zeros(config.d_model)
    if init_from is not None:
        assert isinstance(model, Qwen)
        load_checkpoint(model, init_from, torch.Generator().manual_seed(settings.seed))
        center = model.embedding.weight.data.mean(dim=0)
    if settings.code_embedding_scale and codebooks:
        width = codebooks[0].shape[1]
        projection = torch.randn(width, config.d_model) / math.sqrt(width)
        for (first, end), codebook in zip(model.token_ranges, codebooks, strict=False):
            placed = codebook @ projection
            placed = placed - placed.mean(dim=0)
            spread = settings.code_embedding_scale / placed.std().clamp(min=1e-6)
            model.embedding.weight.data[first:end] = center + placed * spread
    return model


def fit(module: StampModule, folder: Path) -> float:
    """Train, or go on where an interrupted training stopped; the module ends with its best weights.

    Called in all processes of a torchrun, it trains with all of them.

    Args:
        module: untrained.
        folder: for `checkpoints/`, and the logs in `csv/` and `tensorboard/`.

    Returns:
        the best weights' recall@10 on the validation users.
    """
    settings = module.settings
    torch.set_num_threads(settings.num_threads)
    best, resume = best_checkpoint(folder), resume_checkpoint(folder, settings)
    bar = RichProgressBar()
    with _quiet():
        trainer = _trainer(folder, settings, [best, resume, AfterValidation(folder), bar])
        trainer.fit(module, ckpt_path=newest(folder), weights_only=True)
        bar.disable()
        trainer.loggers = []  # the best weights once more: no step of the curve
        trainer.validate(module, ckpt_path=best.best_model_path, verbose=False, weights_only=True)
    return float(trainer.callback_metrics[MONITOR])


def batches_each(settings: TrainerConfig) -> int:
    """Batches of one step that each process computes.

    Raises:
        ModelError: there are not as many for each.
    """
    found, rest = divmod(settings.accumulate, num_processes())
    if rest:
        raise ModelError(
            f"accumulate = {settings.accumulate} batches of a step cannot be shared evenly by "
            f"{num_processes()} processes"
        )
    return found


def _trainer(folder: Path, settings: TrainerConfig, callbacks: list[Callback]) -> Trainer:
    stopping = EarlyStopping(MONITOR, mode="max", patience=settings.patience)
    batches = batches_each(settings)
    return Trainer(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=num_processes(),
        strategy="auto" if num_processes() == 1 else "ddp",
        max_steps=settings.max_steps,
        max_epochs=1,
        limit_train_batches=settings.max_steps * batches,
        accumulate_grad_batches=batches,
        val_check_interval=min(settings.validate_every, settings.max_steps) * batches,
        precision="bf16-mixed" if settings.precision == "bfloat16" else "32-true",
        num_sanity_val_steps=0,
        gradient_clip_val=settings.gradient_clip,
        log_every_n_steps=10,
        enable_model_summary=False,
        callbacks=[*callbacks, stopping],
        logger=[CSVLogger(folder, "csv", ""), TensorBoardLogger(folder, "tensorboard", "")],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lightning's advice and its own deprecations from the person who trains."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        log.setLevel(level)
