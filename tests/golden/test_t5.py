"""Our T5 computes what transformers' T5 computes, given the same weights."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import T5ForConditionalGeneration

from model.config import T5Config
from model.semantic_id import BOS, PAD
from model.t5 import T5
from tests.factories import history_batch, random_t5, random_table, tiny_config


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal to float32 rounding."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def reference_t5(ours: T5) -> T5ForConditionalGeneration:
    """Transformers' T5 with our sizes and our weights."""
    config = ours.config
    reference = T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=ours.embedding.num_embeddings,
            d_model=config.d_model,
            d_kv=config.d_kv,
            d_ff=config.d_ff,
            num_layers=config.num_layers,
            num_decoder_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            dropout_rate=0.0,
            relative_attention_max_distance=config.relative_attention_max_distance,
            feed_forward_proj="gated-gelu" if config.feed_forward == "gated" else "relu",
            tie_word_embeddings=config.tie_outputs,
            pad_token_id=PAD,
            decoder_start_token_id=BOS,
        )
    ).eval()
    if not config.tie_outputs:  # transformers 5 ties them whatever the configuration says
        reference.lm_head = nn.Linear(config.d_model, ours.embedding.num_embeddings, bias=False)
    reference.load_state_dict(to_transformers(ours))
    return reference


def to_transformers(ours: T5) -> dict[str, Tensor]:
    """Our weights under transformers' names."""
    names = ("shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head")
    weights = {f"{name}.weight": ours.embedding.weight for name in names}
    if not ours.config.tie_outputs:
        head = torch.zeros_like(ours.embedding.weight)
        for output, (first, end) in zip(ours.outputs, ours.token_ranges, strict=True):
            head[first:end] = output.get_parameter("weight")
        weights["lm_head.weight"] = head
    for stack in ("encoder", "decoder"):
        part = getattr(ours, stack)
        weights[f"{stack}.final_layer_norm.weight"] = part.norm.weight
        table = part.position_bias.table.weight
        bias_name = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        weights[f"{stack}.{bias_name}"] = table
        for index, block in enumerate(part.blocks):
            named = block_weights(block, is_decoder=stack == "decoder", config=ours.config)
            weights |= {f"{stack}.block.{index}.layer.{name}": w for name, w in named.items()}
    return {name: weight.detach().clone() for name, weight in weights.items()}


def block_weights(block: Any, *, is_decoder: bool, config: T5Config) -> dict[str, Tensor]:
    """One block's weights under transformers' names."""
    query, key, value = block.attention.qkv.weight.chunk(3)
    named = {
        "0.SelfAttention.q.weight": query,
        "0.SelfAttention.k.weight": key,
        "0.SelfAttention.v.weight": value,
        "0.SelfAttention.o.weight": block.attention.out.weight,
        "0.layer_norm.weight": block.attention_norm.weight,
    }
    last = 2 if is_decoder else 1
    if is_decoder:
        key, value = block.cross.key_value.weight.chunk(2)
        named |= {
            "1.EncDecAttention.q.weight": block.cross.query.weight,
            "1.EncDecAttention.k.weight": key,
            "1.EncDecAttention.v.weight": value,
            "1.EncDecAttention.o.weight": block.cross.out.weight,
            "1.layer_norm.weight": block.cross_norm.weight,
        }
    named[f"{last}.layer_norm.weight"] = block.ff_norm.weight
    names = ("wi_1", "wi_0") if config.feed_forward == "gated" else ("wi", None)
    named[f"{last}.DenseReluDense.{names[0]}.weight"] = block.ff.inner.weight
    if names[1] is not None:
        named[f"{last}.DenseReluDense.{names[1]}.weight"] = block.ff.gate.weight
    named[f"{last}.DenseReluDense.wo.weight"] = block.ff.outer.weight
    return named


def batch(config: T5Config) -> tuple[Tensor, Tensor, Tensor]:
    """Padded history tokens, their mask, and target codes."""
    table = random_table()
    tokens, mask = table.pack(
        history_batch([12, 7, 1]), separator=config.separator, num_items=config.max_history_items
    )
    return torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(table.codes[:3])


VARIANTS = [
    {},
    {"feed_forward": "gated"},
    {"tie_outputs": True},
    {"separator": True, "max_history_items": 60, "relative_attention_max_distance": 40},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_encoder_computes_what_transformers_t5_computes(changes: dict[str, object]) -> None:
    """With the same weights, the states of real tokens agree to float32 rounding."""
    ours = random_t5(tiny_config(**changes))
    tokens, mask, _ = batch(ours.config)

    found = ours.encode(tokens, mask, ratio=1.0).hidden

    expected = reference_t5(ours).encoder(input_ids=tokens, attention_mask=mask.long())
    assert_close(found[mask], expected.last_hidden_state[mask])


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_decoder_computes_what_transformers_t5_computes(changes: dict[str, object]) -> None:
    """With the same weights, the scores of every level's codes agree to float32 rounding."""
    ours = random_t5(tiny_config(**changes))
    tokens, mask, codes = batch(ours.config)
    inputs = torch.cat((torch.full((3, 1), BOS), (codes + ours.first_tokens)[:, :-1]), dim=1)

    states = ours.decode(ours.prompt(tokens, mask, ratio=1.0), codes.long())
    found = [ours.logits(states[:, level], level) for level in range(3)]

    scores = reference_t5(ours)(
        input_ids=tokens, attention_mask=mask.long(), decoder_input_ids=inputs
    ).logits
    for level, (first, end) in enumerate(ours.token_ranges):
        assert_close(found[level], scores[:, level, first:end])


def test_decoding_step_by_step_computes_what_teacher_forcing_computes() -> None:
    """Remembered keys and values give the states that one pass over all levels gives."""
    ours = random_t5()
    tokens, mask, codes = batch(ours.config)
    prompt = ours.prompt(tokens, mask)

    states, now = ours.start(prompt)
    assert now is not None
    found, past = [states[:, 0]], [now]
    for level in range(1, 3):
        states, now = ours.step(prompt, past, codes[:, None, level - 1 : level].long(), level)
        found.append(states[:, 0, 0])
        past.append(now[:, :, :, :, 0])

    expected = ours.decode(ours.prompt(tokens, mask), codes.long())
    assert_close(torch.stack(found, dim=1), expected)


@torch.inference_mode()
def test_codes_fed_at_once_compute_what_steps_compute() -> None:
    """All codes of an answer in one pass: the same states, and the same to remember."""
    ours = random_t5()
    tokens, mask, codes = batch(ours.config)
    prompt = ours.prompt(tokens, mask)
    _, now = ours.start(prompt)
    assert now is not None

    states, _ = ours.step(prompt, [now], codes[:, None, :2].long(), 1)

    expected = ours.decode(ours.prompt(tokens, mask), codes.long())
    assert_close(states[:, 0], expected[:, 1:])
