"""What ranking tokens costs: the attention weights of one block, with no token dropped."""

from torch import Tensor, nn

from benchmarks.workload import Job, job, with_ratio
from model.config import PruningConfig, QwenConfig, T5Config
from model.encoder import EncoderBlock, forward_and_rank
from model.qwen import importance_after
from model.qwen_layers import GroupedAttention
from model.t5 import T5
from training.cost import interleaved_seconds


class RankingBlock(nn.Module):
    """An encoder block that ranks its tokens, and stands where a plain one stood."""

    def __init__(self, block: EncoderBlock, mask: Tensor, pruning: PruningConfig) -> None:
        super().__init__()
        self.block, self.mask, self.pruning = block, mask, pruning

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """As the block before the cut, which then does not happen."""
        return forward_and_rank(self.block, hidden, bias, self.mask, self.pruning)[0]


def share_of_encode(config: T5Config | QwenConfig, items: int, rows: int, budget_s: float) -> float:
    """Time added by ranking tokens at one block, as a share of the time to read the histories.

    Args:
        config: of the model; its pruning says what ranks tokens, and at which block.
        items: of every history.
        rows: in the batch.
        budget_s: how long to measure.
    """
    plain, ranking = (job(with_ratio(config, 1.0), [[items] * rows]) for _ in range(2))
    rank_without_cut(ranking)
    works = {"plain": plain.encode, "ranking": ranking.encode}
    seconds = interleaved_seconds(works, budget_s)
    return seconds["ranking"] / seconds["plain"] - 1


def rank_without_cut(changed: Job) -> None:
    """Make a job's model rank tokens where its configuration says, and keep them all."""
    model, pruning = changed.model, changed.model.config.pruning
    mask = changed.batches[0].mask
    assert pruning is not None
    if isinstance(model, T5):
        block = model.encoder.blocks[pruning.layer]
        assert isinstance(block, EncoderBlock)
        model.encoder.blocks[pruning.layer] = RankingBlock(block, mask, pruning)
        return

    def rank(module: nn.Module, inputs: tuple[Tensor, ...], mixed: Tensor) -> None:
        assert isinstance(module, GroupedAttention)
        assert pruning is not None
        query, key, _, bias = inputs
        importance_after(module, (query, key, bias), mixed, mask, pruning)

    block = model.get_submodule(f"blocks.{pruning.layer}.attention")
    block.register_forward_hook(rank)
