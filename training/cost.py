"""Three ways to say what a computation costs: time, arithmetic, and memory kept for backward."""

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from model.memory import keep_freed_memory

Key = TypeVar("Key", bound=Hashable)
Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds that a piece of work took, least and median over rounds.

    Args:
        least_s: processor time.
        median_s: processor time.
        least_wall_s: by the clock on the wall.
        median_wall_s: by the clock on the wall.
    """

    least_s: float
    median_s: float
    least_wall_s: float
    median_wall_s: float


def interleaved(
    works: Mapping[Key, Work], budget_s: float, min_rounds: int = 3
) -> dict[Key, Timing]:
    """How long each piece of work takes, compared in interleaved rounds.

    Every round does every work once, so whatever disturbs the machine disturbs all of them; the
    minimum over rounds is what is left without it. Processor time, not the clock on the wall: a
    single thread that computes has the same of both on a quiet machine, and only the first is
    blind to waiting for a core that somebody else uses.

    Args:
        works: what to do, by name. Each is done once before anything counts.
        budget_s: begin no further round after this long on the wall.
        min_rounds: but do at least so many.
    """
    for work in works.values():
        work()
    seconds: dict[Key, list[float]] = {key: [] for key in works}
    wall: dict[Key, list[float]] = {key: [] for key in works}
    rounds, end = 0, time.perf_counter() + budget_s
    while rounds < min_rounds or time.perf_counter() < end:
        for key, work in works.items():
            start, start_wall = time.process_time(), time.perf_counter()
            work()
            seconds[key].append(time.process_time() - start)
            wall[key].append(time.perf_counter() - start_wall)
        rounds += 1
    return {
        key: Timing(min(seconds[key]), median(seconds[key]), min(wall[key]), median(wall[key]))
        for key in works
    }


def interleaved_seconds(
    works: Mapping[Key, Work], budget_s: float, min_rounds: int = 3
) -> dict[Key, float]:
    """The least seconds of processor time that each piece of work took; see `interleaved`."""
    found = interleaved(works, budget_s, min_rounds)
    return {key: timing.least_s for key, timing in found.items()}


def flops(work: Work) -> int:
    """Floating-point operations of the matrix products, two per multiply-add.

    The work must run on the meta device: there attention is made of plain products, whereas the
    counter does not know the fused kernel of the CPU and would count it as nothing.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def bytes_saved_for_backward(forward: Callable[[], Tensor], owned: Iterable[Tensor]) -> int:
    """Memory that autograd holds from forward to backward; each storage counts once.

    Args:
        forward: computes a loss.
        owned: parameters and buffers, which are there anyway and do not count.
    """
    not_counted = {tensor.untyped_storage().data_ptr() for tensor in owned}
    held: list[Tensor] = []  # alive until the end, so that no address is used twice
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held.append(tensor.detach())  # the tensor itself would lead back here, and never be freed
        if storage.data_ptr() not in not_counted:
            sizes[storage.data_ptr()] = storage.nbytes()
        return held[-1]

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    assert loss.requires_grad
    return sum(sizes.values())


def settle() -> None:
    """Compute on one thread, what a core does on any machine, and keep freed memory."""
    torch.set_num_threads(1)
    keep_freed_memory()
