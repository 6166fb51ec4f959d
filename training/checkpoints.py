"""The checkpoints of a training: the best weights, and where an interrupted one goes on."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from training.config import TrainerConfig

MONITOR = "valid/recall@10"


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
    """Keeps the latest state every so many steps.

    Lightning looks after every batch; but only a higher step is better, so nothing is saved between
    the batches that share one, whose gradients a checkpoint would not hold.
    """
    common = _common(folder, "resume-{step}")
    return ModelCheckpoint(monitor="step", every_n_train_steps=settings.resume_every, **common)


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
