"""A request never makes the host wait for the device, and its shapes depend on its bucket alone.

Both are what CUDA graphs need: a graph is captured once per bucket and replayed for any contents.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.model.watchers import VARIANTS, Config, ShapeWatcher, SyncWatcher, request

EVERY = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
SYNCS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.any()),
    "int": lambda x: int(x.argmax()),
    "nonzero": lambda x: x.nonzero(),
    "where": torch.where,
    "unique": torch.unique,
    "masked_select": lambda x: x.masked_select(x > 0),
    "read by mask": lambda x: x[x > 0],
    "repeats": lambda x: x.repeat_interleave(x.long().abs()),
    "equal": lambda x: torch.equal(x, x + 1),
}


@EVERY
@torch.inference_mode()
def test_nothing_waits_for_the_device(config: Config) -> None:
    """From the packed batch to the found leaves, no operation whose result the host must read."""
    run = request(config, (12, 1, 7))

    with SyncWatcher() as watcher:
        run()

    assert watcher.syncs == []


@EVERY
@torch.inference_mode()
def test_shapes_depend_on_the_bucket_alone(config: Config) -> None:
    """Other histories, lengths and exclusions: the same operations with the same shapes."""
    runs = [request(config, (12, 1, 7), seed=0), request(config, (3, 2, 5), seed=1)]

    seen = []
    for run in runs:
        with ShapeWatcher() as watcher:
            run()
        seen.append(watcher.seen)

    assert len(seen[0]) > 100
    assert seen[0] == seen[1]


@pytest.mark.parametrize("sync", SYNCS.values(), ids=SYNCS)
def test_the_watcher_sees_every_way_to_wait(sync: Callable[[Tensor], object]) -> None:
    """Each of these makes a host wait for its device."""
    values = torch.tensor([1.0, -2.0, 3.0])

    with SyncWatcher() as watcher:
        sync(values)

    assert watcher.syncs != []
