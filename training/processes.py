"""The processes that share one training: a single one, or those that torchrun started."""

from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment


def num_processes() -> int:
    """How many there are."""
    return TorchElasticEnvironment().world_size() if TorchElasticEnvironment.detect() else 1


def rank() -> int:
    """Which of them this is, from 0; the first alone writes, validates and reports."""
    return TorchElasticEnvironment().global_rank() if TorchElasticEnvironment.detect() else 0
