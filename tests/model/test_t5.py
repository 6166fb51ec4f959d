"""What is our own in T5: recency, and encoder states that do not depend on padding."""

import torch

from model.t5 import T5
from tests.factories import history_batch, random_t5, random_table, tiny_config


def encode(model: T5, length: int, num_items: int) -> torch.Tensor:
    """Encoder states of one history, padded to num_items."""
    tokens, mask = random_table().pack(
        history_batch([length]), separator=model.config.separator, num_items=num_items
    )
    encoded = model.encode(torch.from_numpy(tokens), torch.from_numpy(mask), ratio=1.0)
    return encoded.hidden[encoded.mask]


def test_recency_counts_items_from_the_newest() -> None:
    """Tokens of one item share a vector; the newest item's is the first."""
    model = random_t5(tiny_config(recency=True, separator=True))
    mask = torch.arange(16)[None] < 12

    found = model._items_after(mask)

    assert found[0, :12].tolist() == [2] * 4 + [1] * 4 + [0] * 4
    assert found[0, 12:].tolist() == [0] * 4


def test_recency_changes_states_and_does_not_depend_on_padding() -> None:
    """The same history, padded or not, has the same states; without recency it has others."""
    model = random_t5(tiny_config(recency=True))
    plain = random_t5(tiny_config())

    found = encode(model, length=5, num_items=5)

    torch.testing.assert_close(found, encode(model, length=5, num_items=9))
    assert not torch.allclose(found, encode(plain, length=5, num_items=5))


def test_states_of_real_tokens_do_not_depend_on_padding() -> None:
    """Padding hides behind a mask in every block."""
    model = random_t5()

    torch.testing.assert_close(encode(model, 4, 4), encode(model, 4, 12))
