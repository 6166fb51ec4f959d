"""RecTokens' trie, where it is installed: `rectokens`, the file vntk.py and what it needs alone.

The rest of that package asks for CUDA when it is imported. It has no beam search for batches, so
its masking step stands in the same loop as everybody's.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.trie_peers import Codes, Found, Selected


class RecTokens:
    """Its compressed sparse rows and its PyTorch step. Raises ImportError if it is not there."""

    def __init__(self, codes: Codes, vocabulary: int) -> None:
        schema = import_module("rectokens.schemas.compact_csr_trie").CompactCSRTrie
        self._step: Any = import_module("rectokens.decoding.vntk").vtnk_pytorch
        sids = torch.from_numpy(np.unique(codes, axis=0)).long()
        self._trie: Any = schema.from_sorted_batch(sids, vocabulary, dense_lookup_layers=1)

    def search(self, logits: Sequence[Tensor], beam_width: int) -> Found:
        """Beam search; logits per level, (batch, beams, vocabulary)."""
        beams = Selected(logits, beam_width)
        nodes = torch.zeros(len(logits[0]), dtype=torch.int64)
        for level, scores in enumerate(logits):
            log_probs = scores.log_softmax(-1)
            rows = log_probs.flatten(0, 1)
            following, codes, legal = self._step(rows, nodes, self._trie, level)
            terms = legal.gather(1, codes.clamp(min=0)).masked_fill(codes < 0, -torch.inf)
            shape = (*log_probs.shape[:2], -1)
            best = beams.extend(terms.view(shape), codes.view(shape))
            nodes = following.view(len(log_probs), -1).gather(1, best).flatten()
        return beams.found()
