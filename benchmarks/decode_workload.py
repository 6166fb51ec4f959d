"""What the decoding benchmark runs: one T5, one catalog, and our search at a chosen speed.

Shape words: rows (of a batch), beams, levels, seq.
"""

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from model.backbone import Backbone
from model.beam_search import Beams, beam_search
from model.buckets import Graphs
from model.config import PruningConfig, T5Config
from model.decoder import DecoderBlock
from model.encoder import EncoderBlock
from model.graphs import ModelWithGraphs, with_graphs
from model.kernels.library import find
from model.semantic_id import BOS, SidTable
from model.speed import accelerate
from model.t5 import T5
from model.trie import SidTrie

NUM_ITEMS = 12_000
SEED = 0
MARK = 1.0  # how strongly a token says which level comes next


class Batch(NamedTuple):
    """Histories of equal length: (rows, seq) int64 tokens and their mask, all True."""

    tokens: Tensor
    mask: Tensor


class Ranking(NamedTuple):
    """What a search found: (rows, beams, levels) int64 codes, (rows, beams) float32 scores."""

    sids: Tensor
    scores: Tensor


class Searcher(Protocol):
    """Whoever finds the likeliest semantic IDs."""

    def search(self, batch: Batch, beam_width: int) -> object:
        """Everything from the tokens to the best semantic IDs: what is timed."""
        ...

    def ranking(self, batch: Batch, beam_width: int) -> Ranking:
        """The same search, read out."""
        ...


class RankingError(Exception):
    """Two searches disagree: whatever they cost, they cannot be compared."""


@dataclass(frozen=True)
class Case:
    """A model in eval mode, and the semantic IDs of a catalog."""

    model: T5
    table: SidTable

    @cached_property
    def trie(self) -> SidTrie:
        """The semantic IDs that exist."""
        return SidTrie.from_sids(self.table.sids)

    def batch(self, rows: int, seed: int = SEED) -> Batch:
        """Random histories, as long as the model reads them."""
        config = self.model.config
        items = config.max_history_items
        random = np.random.default_rng(seed)
        histories = random.integers(0, self.table.num_items, (rows, items)).tolist()
        tokens, mask = self.table.pack(histories, separator=config.separator, num_items=items)
        return Batch(torch.from_numpy(tokens), torch.from_numpy(mask))


@dataclass(frozen=True)
class Speed:
    """What may be traded for time.

    Args:
        dtype: of the weights and states; scores are summed in float32 all the same.
        ratio: share of the history's tokens that is kept after the pruned block; 1 = all.
        compiled: by torch.compile, which takes minutes; for each shape when it is first searched.
        own_kernels: float32 blocks by our compiled code, where there is any.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    ratio: float = 1.0
    compiled: bool = False
    own_kernels: bool = True


@dataclass(frozen=True)
class Ours:
    """Our search; see Searcher.

    Args:
        case: what is searched.
        model: the case's, made fast.
        ratio: share of the history's tokens that is kept.
    """

    case: Case
    model: Backbone
    ratio: float

    @torch.inference_mode()
    def search(self, batch: Batch, beam_width: int) -> Beams:
        """See Searcher; where graphs are wanted, the first search of a shape makes them."""
        model, trie = self.model, self.case.trie
        making = model.making_graphs() if isinstance(model, ModelWithGraphs) else nullcontext()
        with making:
            return beam_search(model, model.prompt(*batch, self.ratio), trie, beam_width)

    def ranking(self, batch: Batch, beam_width: int) -> Ranking:
        """See Searcher."""
        found = self.search(batch, beam_width)
        sids = torch.from_numpy(self.case.table.sids).long()
        return Ranking(sids[found.leaves], found.scores)


def ours(case: Case, speed: Speed) -> Ours:
    """Our search over a copy of the model, made fast as asked."""
    model = copy.deepcopy(case.model)
    if speed.compiled:
        return Ours(case, with_graphs(model, speed.dtype, Graphs((), 0)), speed.ratio)
    kernels = find() if speed.own_kernels else None
    return Ours(case, accelerate(model, speed.dtype, kernels=lambda: kernels), speed.ratio)


def new_case(
    num_items: int = NUM_ITEMS, max_history_items: int = 20, config: T5Config | None = None
) -> Case:
    """TIGER's T5 with random weights, and distinct uniform semantic IDs.

    Args:
        num_items: of the catalog; fewer if the codebooks hold fewer.
        max_history_items: of every history.
        config: another T5.
    """
    config = T5Config(codebook_sizes=(256,) * 4) if config is None else config
    pruning = PruningConfig(layer=1)
    config = config.model_copy(
        update={"max_history_items": max_history_items, "pruning": pruning, "dropout": 0.0}
    )
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = T5(config).eval().requires_grad_(requires_grad=False)
    mark_levels(model)
    return Case(model, distinct_sids(config.codebook_sizes, num_items))


def distinct_sids(codebook_sizes: tuple[int, ...], num_items: int) -> SidTable:
    """One semantic ID per item, drawn alike from all there could be."""
    random = np.random.default_rng(SEED)
    drawn = [random.integers(0, size, 2 * num_items) for size in codebook_sizes]
    sids = np.unique(np.stack(drawn, axis=1), axis=0)
    kept = np.sort(random.permutation(len(sids))[:num_items])
    codes = sids[kept].astype(np.int32)
    return SidTable(codes, codebook_sizes, np.zeros(len(codes), dtype=np.int64))


def mark_levels(model: T5) -> None:
    """Let state m say, in coordinate m, that it predicts level m; nothing else writes there.

    As a trained model, this one then knows which level comes next, which untrained weights do not:
    over a vocabulary of all levels' codes, they would put three quarters of the probability on
    codes of other levels. Our output weights do not read these coordinates.
    """
    levels = len(model.token_ranges)
    model.embedding.weight[:, :levels] = 0
    model.embedding.weight[BOS, 0] = MARK
    for level, (first, end) in enumerate(model.token_ranges[:-1], start=1):
        model.embedding.weight[first:end, level] = MARK
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        assert isinstance(block, EncoderBlock | DecoderBlock)
        block.attention.out.weight[:levels] = 0
        block.ff.outer.weight[:levels] = 0
        if isinstance(block, DecoderBlock):
            block.cross.out.weight[:levels] = 0
    for output in model.outputs:
        output.get_parameter("weight")[:, :levels] = 0


def check_same(found: Ranking, expected: Ranking, tolerance: float = 1e-4) -> float:
    """The largest difference of two rankings' scores.

    Raises:
        RankingError: another semantic ID or order, or scores further apart than the tolerance.
    """
    if found.sids.shape != expected.sids.shape or not torch.equal(found.sids, expected.sids):
        raise RankingError("the two searches found other semantic IDs, or in another order")
    difference = float((found.scores - expected.scores).abs().max())
    if not difference <= tolerance:
        raise RankingError(f"scores of the same semantic IDs differ by {difference:.2e}")
    return difference


def overlap(found: Ranking, expected: Ranking, limit: int) -> float:
    """Share of each row's first `limit` semantic IDs that both found, on average over rows."""
    pairs = zip(found.sids[:, :limit].tolist(), expected.sids[:, :limit].tolist(), strict=True)
    shared = [len(set(map(tuple, one)) & set(map(tuple, other))) for one, other in pairs]
    return sum(shared) / (len(shared) * min(limit, expected.sids.shape[1]))
