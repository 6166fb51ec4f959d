"""The checkpoints of a training: the best weights, and where an interrupted one goes on."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT

from training.config import TrainerConfig

MONITOR = "valid/recall@10"


class _AfterWholeSteps(ModelCheckpoint):
    """Never saves between the batches that share a step: their gradients would be lost."""

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """As lightning does, after a step's last batch only."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class AfterValidation(Checkpoint):
    """Renews a checkpoint made just before a validation, so that what this found is not lost.

    Lightning takes a validation at the step of a checkpoint for done when a training goes on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkpoints"

    def on_validation_end(self, trainer: Trainer, _: LightningModule) -> None:
        """After the checkpoint of the best weights: callbacks of this kind run in order."""
        path = self.folder / f"resume-step={trainer.global_step}.ckpt"
        if path.exists():
            trainer.save_checkpoint(path)


def best_checkpoint(folder: Path) -> ModelCheckpoint:
    """Keeps the weights with the best validation."""
    return ModelCheckpoint(monitor=MONITOR, **_common(folder, "best-{step}"))


def resume_checkpoint(folder: Path, settings: TrainerConfig) -> ModelCheckpoint:
    """Keeps the latest state every so many steps."""
    return _AfterWholeSteps(
        monitor="step",
        every_n_train_steps=settings.resume_every,
        **_common(folder, "resume-{step}"),
    )


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most steps that an interrupted training left, the latest of them."""
    found = (folder / "checkpoints").glob("*.ckpt")
    return max(
        found,
        key=lambda path: (int(path.stem.rpartition("=")[2]), path.stat().st_mtime_ns),
        default=None,
    )


def _common(folder: Path, filename: str) -> dict[str, Any]:
    return {
        "dirpath": folder / "checkpoints",
        "filename": filename,
        "save_top_k": 1,
        "mode": "max",
        "enable_version_counter": False,
    }
