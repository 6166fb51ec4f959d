"""Grouped-query attention, by the kernel with few heads of keys and by the one with all."""

import torch
from torch import Tensor

from model.qwen_layers import GroupedAttention
from tests.factories import TINY_QWEN


def random_attention() -> tuple[GroupedAttention, Tensor, Tensor, Tensor, Tensor]:
    """Random weights, queries, keys, values and bias of two rows of five tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = GroupedAttention(TINY_QWEN)
        query = torch.randn(2, 5, TINY_QWEN.num_heads, TINY_QWEN.d_kv)
        key, value = torch.randn(2, 2, TINY_QWEN.num_kv_heads, 5, TINY_QWEN.d_kv)
        return attention, query, key, value, torch.randn(2, 1, 5, 5)


def test_repeated_heads_of_keys_change_nothing() -> None:
    """A device without a kernel for fewer heads of keys gets the same result from more of them."""
    attention, query, key, value, bias = random_attention()

    few = attention(query, key, value, bias)
    every = attention(query, *map(attention.per_query_head, (key, value)), bias)

    torch.testing.assert_close(every, few)


def test_explicit_weights_mix_values_as_the_fused_kernel_does() -> None:
    """What ranks tokens is the attention that happened, head by head."""
    attention, query, key, value, bias = random_attention()

    weights = attention.weights(query, key, bias)

    mixed = (weights @ attention.per_query_head(value)).transpose(1, 2)
    torch.testing.assert_close(attention.join(mixed), attention(query, key, value, bias))
