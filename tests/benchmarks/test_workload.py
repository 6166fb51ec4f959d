"""The batches hold what they say: so much padding, and no more."""

import torch

from benchmarks.workload import bucketed, job, with_rastp, with_ratio
from tests.factories import TINY, tiny_qwen


def test_histories_of_equal_length_share_a_batch_without_padding() -> None:
    """Buckets of one length each, and every token is real."""
    found = job(TINY, bucketed([5, 3, 5]))

    assert [batch.tokens.shape for batch in found.batches] == [(1, 9), (2, 15)]
    assert all(batch.mask.all() for batch in found.batches)


def test_padded_rows_keep_their_lengths() -> None:
    """Rows are as wide as asked, and their real tokens come first."""
    [batch] = job(TINY, [[5, 3]], pad_to=8).batches

    assert batch.tokens.shape == (2, 24)
    assert batch.mask.sum(dim=1).tolist() == [15, 9]
    assert torch.equal(batch.tokens == 0, ~batch.mask)


def test_every_pruning_gets_the_same_weights_and_histories() -> None:
    """What is compared differs in its pruning alone."""
    jobs = [job(config, [[4]]) for config in (TINY, with_ratio(TINY, 1.0), with_rastp(TINY))]

    first = jobs[0]
    for other in jobs[1:]:
        assert all(map(torch.equal, first.batches[0], other.batches[0]))
        assert all(map(torch.equal, first.owned(), other.owned()))


def test_a_training_step_leaves_fresh_gradients() -> None:
    """Two steps leave the gradient of one: nothing adds up."""
    found = job(tiny_qwen(), [[6, 6]])
    weight = found.model.embedding.weight

    found.train()
    first = weight.grad
    found.train()

    assert first is not None
    assert weight.grad is not None
    assert first is not weight.grad
    torch.testing.assert_close(weight.grad, first)
