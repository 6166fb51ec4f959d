"""SASRec (arXiv:1808.09781) as a baseline, trained by cornac, which is in no lock.

`pip install -e ".[baselines]"` brings it; it is loaded when a recipe asks for it. Shape words:
num_examples, num_items.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from model.errors import ModelError
from training.dataset import ItemIndices
from training.evaluate import some
from training.evaluation_config import SasrecConfig
from training.metrics import Floats
from training.splits import Examples, Split


class Network(Protocol):
    """What is used of a network that cornac has trained."""

    def predict(self, user_ids: None, log_seqs: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Scores of all items for each padded history; without the first axis if there is one."""
        ...


@dataclass(frozen=True)
class Sasrec:
    """A trained SASRec; see training.baselines.Baseline.

    Args:
        network: reads histories of max_history_items, padded on the left.
        num_items: also stands for padding.
        max_history_items: older items are not read.
    """

    network: Network
    num_items: int
    max_history_items: int

    @classmethod
    def fit(cls, split: Split, num_items: int, config: SasrecConfig) -> "Sasrec":
        """Train on training histories; validation items choose the epoch.

        Raises:
            ModelError: cornac is not installed.
        """
        models, data = _installed("cornac.models"), _installed("cornac.data")
        train = [split.train.history(user) for user in range(len(split.train))]
        valid = [
            np.append(history, target)
            for history, target in some(split.valid, config.validation_users).pairs()
        ]
        recommender = models.SASRec(**_arguments(config))
        with torch.random.fork_rng(devices=()):
            recommender.fit(
                _sessions(data, train, num_items),
                _sessions(data, valid, num_items) if valid else None,
            )
        return cls(recommender.model.eval(), num_items, config.max_history_items)

    def scores(self, examples: Examples) -> Floats:
        """See Baseline."""
        padded = np.full((len(examples), self.max_history_items), self.num_items, dtype=np.int64)
        for row, (history, _) in zip(padded, examples.pairs(), strict=True):
            latest = history[-self.max_history_items :]
            row[len(row) - len(latest) :] = latest
        found = self.network.predict(None, padded)
        return found.reshape(len(examples), self.num_items).astype(np.float64)


def _arguments(config: SasrecConfig) -> dict[str, object]:
    """The settings by the names they have in cornac."""
    return {
        "embedding_dim": config.d_model,
        "num_blocks": config.num_layers,
        "num_heads": config.num_heads,
        "dropout": config.dropout,
        "max_len": config.max_history_items,
        "loss": config.loss,
        "n_sample": config.num_negatives,
        "sample_alpha": config.negative_exponent,
        "n_epochs": config.num_epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "model_selection": "best",
        "val_eval_every": config.validate_every,
        "val_k": 10,
        "seed": config.seed,
        "verbose": sys.stderr.isatty(),
    }


def _sessions(data: ModuleType, histories: Iterable[ItemIndices], num_items: int) -> object:
    """Histories as cornac takes them, an item's index being its name."""
    rows = [
        (session, item, position)
        for session, history in enumerate(histories)
        for position, item in enumerate(history.tolist())
    ]
    names = {item: item for item in range(num_items)}
    return data.SequentialDataset.build(rows, fmt="SIT", global_iid_map=names)


def _installed(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise ModelError(
            f'the baseline "sasrec" needs what the extra "baselines" brings ({error}); get it '
            'with: pip install -e ".[baselines]"'
        ) from error
