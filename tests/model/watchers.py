"""Modes that watch every operation torch dispatches, and one request for them to watch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.ancestry import Ancestry
from model.beam_search import Beams, beam_search
from model.config import PruningConfig, QwenConfig, T5Config
from model.rules import NO_NODE, NodeSets, Quota, Rules, Share
from model.trie import SidTrie
from tests.factories import history_batch, random_model, random_table, tiny_config, tiny_qwen

Config = T5Config | QwenConfig
Operation = torch._ops.OpOverload

VARIANTS: dict[str, Config] = {
    "t5": tiny_config(),
    "t5-grid": tiny_config(mlp_layers=2, separator=True, recency=True),
    "t5-gated": tiny_config(feed_forward="gated", tie_outputs=True),
    "t5-rastp": tiny_config(pruning=PruningConfig.rastp()),
    "t5-mean": tiny_config(pruning=PruningConfig(centrality="mean", norm="l2")),
    "t5-random": tiny_config(pruning=PruningConfig(score="random")),
    "qwen": tiny_qwen(),
    "qwen2": tiny_qwen(qk_norm=False, attention_bias=True, separator=True),
    "qwen-last": tiny_qwen(pruning=PruningConfig(centrality="last", positions="reset")),
    "qwen-recent": tiny_qwen(pruning=PruningConfig(score="recent")),
}
ROWS, BEAMS = 3, 6


class Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands every operation, its arguments and its result to `see`."""

    def __torch_dispatch__(
        self,
        func: Operation,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Do it, and look at it."""
        result = func(*args, **(kwargs or {}))
        self.see(func, [*args, *(kwargs or {}).values()], [result])
        return result

    def see(self, func: Operation, inputs: list[object], results: list[object]) -> None:
        """What a watcher is for."""
        raise NotImplementedError


class DeviceWatcher(Watcher):
    """Notes the operations that touch a tensor of any other device."""

    def __init__(self, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.strays: list[str] = []

    def see(self, func: Operation, inputs: list[object], results: list[object]) -> None:
        """Look at every tensor, scalars included."""
        if any(tensor.device.type != self.device for tensor in tensors_in(*inputs, *results)):
            self.strays.append(str(func))


class SyncWatcher(Watcher):
    """Notes the operations for which a host would wait for its device."""

    WAITING = (
        "_local_scalar_dense",
        "_unique",
        "equal",
        "is_nonzero",
        "item",
        "masked_select",
        "nonzero",
        "nonzero_static",
        "unique_consecutive",
        "unique_dim",
    )

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.syncs: list[str] = []

    def see(self, func: Operation, inputs: list[object], _: list[object]) -> None:
        """By name; an index or a repetition whose size the values decide waits as well."""
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            tensor.dtype == torch.bool for tensor in tensors_in(*inputs[1:2])
        )
        by_count = str(func) == "aten.repeat_interleave.Tensor"
        if name.rstrip("2") in self.WAITING or by_mask or by_count:
            self.syncs.append(str(func))


class ShapeWatcher(Watcher):
    """Notes every operation with the shapes it read and wrote."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[str, tuple[torch.Size, ...]]] = []

    def see(self, func: Operation, inputs: list[object], results: list[object]) -> None:
        """In order."""
        self.seen.append((str(func), tuple(x.shape for x in tensors_in(*inputs, *results))))


def tensors_in(*values: object) -> Iterator[Tensor]:
    """All tensors, however nested."""
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def request(
    config: Config, lengths: Sequence[int], *, seed: int = 0, device: str = "cpu"
) -> Callable[[], Beams]:
    """One batch of histories of one bucket; the call encodes and decodes it.

    Args:
        config: of a random model, in bfloat16 unless it computes on the CPU.
        lengths: items per history, at most 12, the bucket.
        seed: of the histories and of what each row excludes.
        device: where everything is put before the call.
    """
    model = random_model(config).to(device)
    model = model if device == "cpu" else model.to(torch.bfloat16)
    table = random_table()
    trie = SidTrie.from_sids(table.sids)
    tokens, mask = (
        torch.from_numpy(array).to(device)
        for array in table.pack(
            history_batch(list(lengths), seed), separator=config.separator, num_items=12
        )
    )
    rules = random_rules(trie, len(lengths), seed, device)
    moved = trie.to(device)

    def run() -> Beams:
        prompt = model.prompt(tokens, mask)
        return beam_search(model, prompt, moved, BEAMS, rules, host_reads=False)

    return run


def random_rules(trie: SidTrie, rows: int, seed: int, device: str) -> Rules:
    """Every rule there is: seen leaves, a filter, a boost and a quota; shapes do not vary."""
    random = np.random.default_rng(seed)
    ancestry = Ancestry(trie)
    dead = [np.sort(random.choice(trie.num_leaves, 3, replace=False)) for _ in range(rows)]
    found = NodeSets.from_rows([ancestry.dead_nodes(row) for row in dead], 3, device)
    excluded = NodeSets(tuple(F.pad(x, (0, 4 - x.shape[1]), value=NO_NODE) for x in found.nodes))
    alive = ancestry.marks_above(random.random(trie.num_leaves) < 0.7)
    boosts = ancestry.most_below(random.random(trie.num_leaves, dtype=np.float32))
    first = torch.zeros(1, dtype=torch.int64, device=device)
    return Rules(
        excluded=excluded,
        alive=(Share(first, tuple(torch.from_numpy(x).to(device) for x in alive)),),
        biases=(Share(None, tuple(torch.from_numpy(x).to(device) for x in boosts)),),
        quota=Quota(*(torch.full((rows, 1), n, device=device) for n in (1, 2))),
    )
