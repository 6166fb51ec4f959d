"""An unchanged history is read once: what the model made of it, row by row, in bounded memory.

The first step of decoding is kept as well: it depends on the history alone.

Shape words: batch, seq (padded history tokens), heads (of keys and values), tokens (of one block,
padded), d_kv. A *row* is a Prompt of batch 1, in memory of its own and without padded keys and
values; its biases are as long as they were, and say what padding to give back.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from model.backbone import Backbone, Prompt, with_first_step
from model.config import ModelConfig
from model.pruning import Cut, num_kept

Key = tuple[str, float, bytes]
"""Version of the model, retention ratio, and the row of tokens, padding included: all it reads."""


@dataclass(frozen=True)
class CacheStats:
    """What a cache did so far, and what it holds now.

    Args:
        hits: rows that were not read: kept from before, or equal to another one of their batch.
        misses: rows that were read.
        evictions: rows that made room for newer ones.
        rows: kept now.
        num_bytes: of their tensors.
    """

    hits: int
    misses: int
    evictions: int
    rows: int
    num_bytes: int


class PromptCache:
    """The rows that were asked for last. It belongs to one model, whose weights do not change.

    Several threads may use it; what two of them miss at the same time both read.

    Args:
        max_bytes: of the tensors of all rows together; 0 = keep nothing.
        version: of the model.
    """

    def __init__(self, max_bytes: int, version: str) -> None:
        self.max_bytes = max_bytes
        self.version = version
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        """Forget every row, and count from 0."""
        with self._lock:
            self._rows: OrderedDict[Key, tuple[Prompt, int]] = OrderedDict()
            self._num_bytes = self._hits = self._misses = self._evictions = 0

    def stats(self) -> CacheStats:
        """May be called from any thread."""
        rows = len(self._rows)
        return CacheStats(self._hits, self._misses, self._evictions, rows, self._num_bytes)

    def prompt(
        self,
        model: Backbone,
        tokens: npt.NDArray[np.int64],
        mask: npt.NDArray[np.bool_],
        ratio: float,
    ) -> Prompt:
        """What `model.prompt` returns for these rows, reading only those that are not kept.

        Args:
            model: in eval mode.
            tokens: (batch, seq), from `SidTable.pack`.
            mask: (batch, seq), True = real token, padding on the right.
            ratio: retention ratio.

        Returns:
            a prompt in which decoding has begun, unless nothing is kept.
        """
        if self.max_bytes == 0:
            return _read(model, tokens, mask, ratio)
        keys = [(self.version, ratio, row.tobytes()) for row in tokens]
        with self._lock:
            found = {key: row for key in keys if (row := self._get(key)) is not None}
            missing = [keys.index(key) for key in dict.fromkeys(keys) if key not in found]
            self._hits += len(keys) - len(missing)
            self._misses += len(missing)
        if missing:
            prompt = with_first_step(model, _read(model, tokens[missing], mask[missing], ratio))
            rows = split(prompt, mask[missing], model.config, ratio)
            found.update(zip((keys[place] for place in missing), rows, strict=True))
            with self._lock:
                for place, row in zip(missing, rows, strict=True):
                    self._keep(keys[place], row)
            if len(missing) == len(keys):
                return prompt
        return join([found[key] for key in keys])

    def _get(self, key: Key) -> Prompt | None:
        if key not in self._rows:
            return None
        self._rows.move_to_end(key)
        return self._rows[key][0]

    def _keep(self, key: Key, row: Prompt) -> None:
        size = num_bytes(row)
        if size > self.max_bytes or key in self._rows:
            return
        self._rows[key] = (row, size)
        self._num_bytes += size
        while self._num_bytes > self.max_bytes:
            _, (_, freed) = self._rows.popitem(last=False)
            self._num_bytes -= freed
            self._evictions += 1


def split(
    prompt: Prompt, mask: npt.NDArray[np.bool_], config: ModelConfig, ratio: float
) -> list[Prompt]:
    """The rows of a prompt; how many of their tokens are real is known without the device.

    Args:
        prompt: of the model with this configuration.
        mask: (batch, seq), True = real token, as the model read it.
        config: of the model.
        ratio: retention ratio it read with.
    """
    after_cut = prompt.memory[-1].shape[3]  # the last block stands behind the cut, if there is one
    rows = []
    for place, num_real in enumerate(mask.sum(axis=1).tolist()):
        spare = spare_after = mask.shape[1] - num_real
        if prompt.cut is not None and config.pruning is not None:
            stay = num_kept(num_real, mask.shape[1], config.tokens_per_item, config.pruning, ratio)
            spare_after = prompt.cut.mask.shape[1] - stay
        lengths = [
            states.shape[3] - (spare_after if states.shape[3] == after_cut else spare)
            for states in prompt.memory
        ]
        rows.append(_row(prompt, place, lengths))
    return rows


def join(rows: Sequence[Prompt]) -> Prompt:
    """The batch that these rows are of, in their order; all were padded to the same length."""
    first = rows[0]
    memory = tuple(
        _cat([_padded(row.memory[block], bias.shape[3]) for row in rows], dim=1)
        for block, bias in enumerate(first.biases)
    )
    places = {id(bias): block for block, bias in enumerate(first.biases)}
    biases = {
        key: _cat([row.biases[block] for row in rows], dim=0) for key, block in places.items()
    }
    kept = _cat_pairs([(row.cut.indices, row.cut.mask) if row.cut else None for row in rows])
    return Prompt(
        memory,
        tuple(biases[id(bias)] for bias in first.biases),
        None if kept is None else Cut(*kept),
        _cat_pairs([row.last for row in rows]),
        _cat_pairs([row.begun for row in rows], second_dim=1),
    )


def num_bytes(prompt: Prompt) -> int:
    """Memory that a prompt's tensors hold; a storage that several share counts once."""
    tensors = [*prompt.memory, *prompt.biases, *(prompt.last or ()), *(prompt.begun or ())]
    if prompt.cut is not None:
        tensors += [prompt.cut.indices, prompt.cut.mask]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({each.data_ptr(): each.nbytes() for each in storages}.values())


def _read(
    model: Backbone, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], ratio: float
) -> Prompt:
    device = model.embedding.weight.device
    return model.prompt(
        torch.from_numpy(tokens).to(device), torch.from_numpy(mask).to(device), ratio
    )


def _row(prompt: Prompt, place: int, lengths: Sequence[int]) -> Prompt:
    """A copy of one row, of whose memory each block's first tokens are real."""
    own = slice(place, place + 1)
    distinct = {id(bias): bias for bias in prompt.biases}
    biases = {key: bias[own].clone() for key, bias in distinct.items()}
    cut, last, begun = prompt.cut, prompt.last, prompt.begun
    return Prompt(
        tuple(
            states[:, own, :, :length].clone()
            for states, length in zip(prompt.memory, lengths, strict=True)
        ),
        tuple(biases[id(bias)] for bias in prompt.biases),
        None if cut is None else Cut(cut.indices[own].clone(), cut.mask[own].clone()),
        None if last is None else (last[0][own].clone(), last[1][own].clone()),
        None if begun is None else (begun[0][own].clone(), begun[1][:, own].clone()),
    )


def _padded(states: Tensor, tokens: int) -> Tensor:
    """(2, batch, heads, real tokens, d_kv) -> (2, batch, heads, tokens, d_kv)."""
    spare = tokens - states.shape[3]
    return F.pad(states, (0, 0, 0, spare)) if spare else states


def _cat_pairs(
    pairs: Sequence[tuple[Tensor, Tensor] | None], second_dim: int = 0
) -> tuple[Tensor, Tensor] | None:
    """Either all of them are there, or none."""
    present = [pair for pair in pairs if pair is not None]
    if not present:
        return None
    return _cat([first for first, _ in present]), _cat(
        [second for _, second in present], second_dim
    )


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return torch.cat(list(tensors), dim) if len(tensors) > 1 else tensors[0]
