"""One level of beam search by compiled code: what candidates.py does in torch, without quotas.

Shape words: batch, beams, codes (of the level's codebook), width (beams that are kept).
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels.library import Kernels
from model.kernels.structures import pointer
from model.rules import Rules, Share
from model.trie import SidTrie


class _Level(ctypes.Structure):
    _fields_ = (("first_child", ctypes.c_void_p), ("codes", ctypes.c_void_p))


class _Rules(ctypes.Structure):
    _fields_ = (
        *(
            (f"num_{name}", ctypes.c_int64)
            for name in ("alive", "biases", "excluded", "allowed", "few")
        ),
        *((name, ctypes.c_void_p) for name in ("alive", "biases", "excluded", "allowed", "bound")),
        *((name, ctypes.c_void_p) for name in ("few", "few_biases")),
    )


class _Kept(ctypes.Structure):
    _fields_ = (
        ("width", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in ("nodes", "owners", "scores", "ranks", "terms", "lost")
        ),
    )


@dataclass(frozen=True)
class Selected:
    """The best children of all beams, best first; (batch, kept) each, `lost` (batch,).

    `kept` is the most that any row has, at least 1; filler has a score of -inf. `owners` int64 are
    the beams that they came from, `terms` their own log-probabilities, `lost` the best rank of what
    was dropped.
    """

    nodes: Tensor
    owners: Tensor
    scores: Tensor
    ranks: Tensor
    terms: Tensor
    lost: Tensor

    @classmethod
    def room(cls, like: Tensor, width: int) -> "Selected":
        """For so many beams of (batch, beams) int64 ones; nothing is there yet."""
        nodes, owners = like.new_empty(2, len(like), width)
        scores, ranks, terms = like.new_empty(3, len(like), width, dtype=torch.float32)
        lost = like.new_empty(len(like), dtype=torch.float32)
        return cls(nodes, owners, scores, ranks, terms, lost)

    def first(self, beams: int) -> "Selected":
        """The best so many."""
        scores, ranks, terms = (each[:, :beams] for each in (self.scores, self.ranks, self.terms))
        return Selected(
            self.nodes[:, :beams], self.owners[:, :beams], scores, ranks, terms, self.lost
        )


def select(
    kernels: Kernels,
    trie: SidTrie,
    level: int,
    parents: Tensor,
    scores: Tensor,
    logits: Tensor,
    rules: Rules,
    width: int,
) -> Selected:
    """Score the legal children of all beams and keep each row's best.

    Args:
        kernels: the compiled code.
        trie: on the CPU.
        level: the children's.
        parents: (batch, beams) int64.
        scores: (batch, beams) float32; -inf = filler.
        logits: (batch, beams, codes) float32.
        rules: without a quota.
        width: beams to keep.
    """
    batch, beams = parents.shape
    assert trie.codes[level].dtype == trie.first_child[level].dtype == torch.int32
    parents, scores, logits = parents.contiguous(), scores.contiguous(), logits.contiguous()
    room = Selected.room(parents, width)
    columns = (room.nodes, room.owners, room.scores, room.ranks, room.terms, room.lost)
    kept = _Kept(width, *(each.data_ptr() for each in columns))
    structure, alive, biases = _structure(rules, level, batch)
    at = _Level(trie.first_child[level].data_ptr(), trie.codes[level].data_ptr())
    most = kernels.select(
        *(ctypes.addressof(at), ctypes.addressof(structure), ctypes.addressof(kept)),
        *(batch, beams, logits.shape[2]),
        *(parents.data_ptr(), scores.data_ptr(), logits.data_ptr()),
    )
    del alive, biases  # were pointed to
    return room.first(max(most, 1))


Pointers = ctypes.Array[ctypes.c_void_p]


def _structure(rules: Rules, level: int, batch: int) -> tuple[_Rules, Pointers, Pointers]:
    """What the rules say of a level, and what that points to."""
    alive, biases = (_per_row(shares, level, batch) for shares in (rules.alive, rules.biases))
    excluded = None if rules.excluded is None else rules.excluded.nodes[level]
    allowed = None if rules.allowed is None else rules.allowed.nodes[level]
    few = None if rules.few_biases is None else rules.few_biases.sets.nodes[level]
    numbers = None if rules.few_biases is None else rules.few_biases.numbers[level]
    structure = _Rules(
        *(len(rules.alive), len(rules.biases)),
        *(0 if sets is None else sets.shape[1] for sets in (excluded, allowed, few)),
        *(ctypes.addressof(alive), ctypes.addressof(biases)),
        *(pointer(each) for each in (excluded, allowed, rules.bound, few, numbers)),
    )
    return structure, alive, biases


def _per_row(shares: Sequence[Share], level: int, batch: int) -> Pointers:
    """(batch, shares) pointers to a level's values, for the rows that share them."""
    found = (ctypes.c_void_p * max(1, batch * len(shares)))()
    for place, share in enumerate(shares):
        address = share.levels[level].data_ptr()
        rows = range(batch) if share.rows is None else share.rows.tolist()
        for row in rows:
            found[row * len(shares) + place] = address
    return found
