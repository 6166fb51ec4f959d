"""What SAP keeps: order, budget, protection, independence of padding."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.config import PruningConfig
from model.pruning import choose, length_after_cut, num_kept, token_importance

RATIOS = st.sampled_from([0.25, 1 / 3, 0.5, 2 / 3, 0.75, 0.99])


def prefix_mask(lengths: list[int], seq: int) -> Tensor:
    """(batch, seq): the first `length` tokens of each row are real."""
    return torch.arange(seq) < torch.tensor(lengths)[:, None]


def random_scores(mask: Tensor, seed: int) -> Tensor:
    """Distinct scores for real tokens, -inf for padding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(mask.shape, generator=generator).masked_fill(~mask, -torch.inf)


@given(
    items=st.lists(st.integers(1, 10), min_size=1, max_size=5),
    tokens_per_item=st.integers(1, 4),
    ratio=RATIOS,
    seed=st.integers(0, 2**16),
)
def test_each_row_keeps_its_best_tokens_in_order(
    items: list[int], tokens_per_item: int, ratio: float, seed: int
) -> None:
    """A row keeps ceil(ratio x real tokens), at least two items, newest item included."""
    lengths = [count * tokens_per_item for count in items]
    mask = prefix_mask(lengths, 10 * tokens_per_item)
    scores = random_scores(mask, seed)
    config = PruningConfig(retention_ratio=ratio)

    cut = choose(scores, mask, tokens_per_item, config, ratio)

    for row, length in enumerate(lengths):
        budget = min(length, max(2 * tokens_per_item, math.ceil(length * ratio - 1e-9)))
        newest = set(range(length - tokens_per_item, length))
        older = sorted(set(range(length)) - newest, key=lambda t: -scores[row, t].item())
        expected = sorted(newest | set(older[: budget - tokens_per_item]))
        assert cut.indices[row][cut.mask[row]].tolist() == expected


@given(length=st.integers(1, 30), extra=st.integers(0, 30), seed=st.integers(0, 2**16))
def test_padding_never_changes_what_is_kept(length: int, extra: int, seed: int) -> None:
    """The same row, alone or padded to any length, keeps the same tokens, bit for bit."""
    config = PruningConfig()
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(1, length + extra, 4, generator=generator)
    scores = torch.rand(1, 2, length + extra, length + extra, generator=generator)
    mask = prefix_mask([length], length + extra)
    alone = slice(0, length)

    padded = token_importance(hidden, scores, mask, config)
    single = token_importance(hidden[:, alone], scores[:, :, alone, alone], mask[:, alone], config)

    kept = [
        choose(importance, row_mask, 1, config, 1 / 3)
        for importance, row_mask in ((padded, mask), (single, mask[:, alone]))
    ]
    assert kept[0].indices[kept[0].mask].tolist() == kept[1].indices[kept[1].mask].tolist()


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    extra=st.integers(0, 10),
    ratio=st.floats(0.01, 0.99),
    min_items=st.integers(0, 3),
    budget=st.sampled_from(["valid", "padded"]),
)
def test_how_many_tokens_stay_is_known_without_looking(
    lengths: list[int], extra: int, ratio: float, min_items: int, budget: str
) -> None:
    """From a row's length alone, as many as `choose` then keeps."""
    config = PruningConfig.model_validate({"min_items": min_items, "budget": budget})
    seq = max(lengths) + extra
    mask = prefix_mask(lengths, seq)

    cut = choose(random_scores(mask, seed=0), mask, 2, config, ratio)

    expected = [num_kept(length, seq, 2, config, ratio) for length in lengths]
    assert cut.mask.sum(dim=1).tolist() == expected


def test_importance_is_attention_received_times_l1_norm() -> None:
    """The formula of the paper, written out with loops."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 3, 4, generator=generator)
    attention = torch.rand(1, 2, 3, 3, generator=generator)
    mask = prefix_mask([2], 3)

    found = token_importance(hidden, attention, mask, PruningConfig())

    for token in range(2):
        received = sum(attention[0, h, j, token].item() for h in range(2) for j in range(2))
        norm = sum(abs(value) for value in hidden[0, token].tolist())
        assert found[0, token].item() == pytest.approx(received * norm, rel=1e-6)
    assert found[0, 2].item() == -torch.inf


@pytest.mark.parametrize(
    ("score", "expected"),
    [("attention", [1, 2]), ("norm", [0, 1]), ("recent", [1, 2]), ("product", [0, 2])],
)
def test_every_score_ranks_by_its_own_factor(score: str, expected: list[int]) -> None:
    """Attention received (1, 2, 8), L1 norms (10, 4, 2): each option keeps its own best two."""
    hidden = torch.tensor([[[10.0, 0.0], [2.0, 2.0], [0.0, 2.0]]])
    attention = torch.tensor([1.0, 2.0, 8.0]).expand(1, 1, 3, 3) / 3
    mask = prefix_mask([3], 3)
    config = PruningConfig.model_validate(
        {"score": score, "protect_newest": False, "min_items": 0, "retention_ratio": 0.6}
    )

    importance = token_importance(hidden, attention, mask, config)
    cut = choose(importance, mask, 1, config, 0.6)

    assert cut.indices[cut.mask].tolist() == expected


def test_random_importance_is_a_control_for_real_tokens_only() -> None:
    """Random scores are finite for real tokens and never let padding in."""
    mask = prefix_mask([2], 4)
    config = PruningConfig(score="random")

    found = token_importance(torch.zeros(1, 4, 2), torch.zeros(1, 1, 4, 4), mask, config)

    assert torch.isfinite(found).tolist() == mask.tolist()


def test_the_l2_norm_is_an_option() -> None:
    """A (3, 4) state weighs 5 by L2 and 7 by L1."""
    hidden, attention = torch.tensor([[[3.0, 4.0]]]), torch.ones(1, 1, 1, 1)
    mask = prefix_mask([1], 1)

    found = [
        token_importance(hidden, attention, mask, PruningConfig.model_validate({"norm": norm}))
        for norm in ("l1", "l2")
    ]

    assert [score.item() for score in found] == pytest.approx([7.0, 5.0])


def test_rastp_keeps_a_third_of_the_padded_length() -> None:
    """As coded by its authors: k from the padded length, pads count as queries, no protection."""
    config = PruningConfig.rastp()
    mask = prefix_mask([12, 2], 12)
    scores = random_scores(mask, seed=1)

    cut = choose(scores, mask, 4, config, config.retention_ratio)

    assert length_after_cut(12, 4, config, config.retention_ratio) == 4
    assert cut.indices[0].tolist() == scores[0].topk(4).indices.sort().values.tolist()
    assert cut.indices[1][cut.mask[1]].tolist() == [0, 1]


def test_a_gathered_position_bias_keeps_true_distances() -> None:
    """Entry (i, j) of the cut bias is the entry of the kept tokens' old positions."""
    bias = torch.arange(16.0).view(1, 1, 4, 4)
    mask = prefix_mask([4], 4)
    config = PruningConfig(protect_newest=False, min_items=0)
    cut = choose(torch.tensor([[1.0, 9.0, 2.0, 8.0]]), mask, 1, config, 0.5)

    assert cut.indices.tolist() == [[1, 3]]
    assert cut.gather_bias(bias)[0, 0].tolist() == [[5.0, 7.0], [13.0, 15.0]]
