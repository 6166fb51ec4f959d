"""Our Qwen computes what transformers' Qwen2 and Qwen3 compute, given the same weights."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from model.config import QwenConfig
from model.qwen import Qwen
from model.semantic_id import PAD
from tests.decoding import at_once, step_by_step
from tests.factories import history_batch, random_model, random_table, tiny_qwen

QWEN2 = {"qk_norm": False, "attention_bias": True}
QWEN3 = {"qk_norm": True, "attention_bias": False}
VARIANTS = [QWEN2, QWEN3, QWEN3 | {"tie_outputs": True}, QWEN2 | {"separator": True}]


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal to float32 rounding."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def random_qwen(changes: dict[str, Any]) -> Qwen:
    """An untrained model whose biases and norms are not trivial either."""
    model = random_model(tiny_qwen(**changes))
    assert isinstance(model, Qwen)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(noise + (0 if name.endswith("bias") else 1))
    return model


def reference_qwen(ours: Qwen) -> Any:
    """Transformers' model with our sizes and our weights."""
    config = ours.config
    sizes = {
        "vocab_size": ours.embedding.num_embeddings,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.d_kv,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tie_outputs,
        "pad_token_id": PAD,
    }
    if config.qk_norm:
        reference: Any = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes))
    else:
        reference = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**sizes))
    reference.load_state_dict(to_transformers(ours))
    return reference.eval()


def to_transformers(ours: Qwen) -> dict[str, Tensor]:
    """Our weights under transformers' names."""
    embedding = ours.embedding.weight
    head = embedding
    if not ours.config.tie_outputs:
        head = torch.zeros_like(embedding)
        for output, (first, end) in zip(ours.outputs, ours.token_ranges, strict=True):
            head[first:end] = output.get_parameter("weight")
    weights = {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    weights["model.norm.weight"] = ours.norm.weight
    for index, block in enumerate(ours.blocks):
        named = block_weights(block, ours.config)
        weights |= {f"model.layers.{index}.{name}": weight for name, weight in named.items()}
    return {name: weight.detach().clone() for name, weight in weights.items()}


def block_weights(block: Any, config: QwenConfig) -> dict[str, Tensor]:
    """One block's weights under transformers' names."""
    widths = [n * config.d_kv for n in (config.num_heads, config.num_kv_heads, config.num_kv_heads)]
    gate, up = block.ff.gate_up.weight.chunk(2)
    named = {
        "input_layernorm.weight": block.attention_norm.weight,
        "post_attention_layernorm.weight": block.ff_norm.weight,
        "self_attn.o_proj.weight": block.attention.out.weight,
        "mlp.gate_proj.weight": gate,
        "mlp.up_proj.weight": up,
        "mlp.down_proj.weight": block.ff.down.weight,
    }
    parts = [("weight", block.attention.qkv.weight), ("bias", block.attention.qkv.bias)]
    for kind, joined in parts:
        if joined is not None:
            for letter, part in zip("qkv", joined.split(widths), strict=True):
                named[f"self_attn.{letter}_proj.{kind}"] = part
    if config.qk_norm:
        named["self_attn.q_norm.weight"] = block.attention.query_norm.weight
        named["self_attn.k_norm.weight"] = block.attention.key_norm.weight
    return named


def batch(ours: Qwen) -> tuple[Tensor, Tensor, Tensor]:
    """Padded history tokens, their mask, and target codes."""
    table = random_table()
    tokens, mask = table.pack(
        history_batch([12, 7, 1]), separator=ours.config.separator, num_items=12
    )
    return torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(table.codes[:3])


def expected_scores(ours: Qwen, tokens: Tensor, mask: Tensor, codes: Tensor) -> list[Tensor]:
    """Transformers' scores of each level, one unpadded row at a time."""
    reference = reference_qwen(ours)
    rows = []
    for row in range(len(tokens)):
        answer = (codes[row] + ours.first_tokens)[:-1]
        ids = torch.cat((tokens[row][mask[row]], answer))
        rows.append(reference(input_ids=ids[None]).logits[0, -codes.shape[1] :])
    scores = torch.stack(rows)
    return [scores[:, n, first:end] for n, (first, end) in enumerate(ours.token_ranges)]


@pytest.mark.parametrize("changes", VARIANTS)
@torch.inference_mode()
def test_teacher_forcing_computes_what_transformers_computes(changes: dict[str, Any]) -> None:
    """With the same weights, the scores of every level's codes agree to float32 rounding."""
    ours = random_qwen(changes)
    tokens, mask, codes = batch(ours)

    states = ours.decode(ours.prompt(tokens, mask, ratio=1.0), codes.long())

    for level, expected in enumerate(expected_scores(ours, tokens, mask, codes)):
        assert_close(ours.logits(states[:, level], level), expected)


@pytest.mark.parametrize("changes", VARIANTS)
@torch.inference_mode()
def test_decoding_with_a_cache_computes_what_transformers_computes(changes: dict[str, Any]) -> None:
    """One level at a time over remembered keys and values: the same scores."""
    ours = random_qwen(changes)
    tokens, mask, codes = batch(ours)
    prompt = ours.prompt(tokens, mask, ratio=1.0)

    states = step_by_step(ours, prompt, codes)

    for level, expected in enumerate(expected_scores(ours, tokens, mask, codes)):
        assert_close(ours.logits(states[:, level], level), expected)


@pytest.mark.parametrize("changes", VARIANTS)
@torch.inference_mode()
def test_dense_states_predict_what_transformers_predicts(changes: dict[str, Any]) -> None:
    """State (i, m) is the state before level m of item i + 1, at every item of the history."""
    ours = random_qwen(changes)
    tokens, mask, _ = batch(ours)

    states = ours.dense_states(tokens, mask)

    per_item = ours.config.tokens_per_item
    scores = reference_qwen(ours)(input_ids=tokens[:1]).logits[0]
    for item in range(11):
        for level, (first, end) in enumerate(ours.token_ranges):
            place = (item + 1) * per_item + level - 1
            found = ours.logits(states[0, item, level], level)
            assert_close(found, scores[place, first:end])


@pytest.mark.parametrize("positions", ["keep", "reset"])
@torch.inference_mode()
def test_decoding_with_a_cache_is_teacher_forcing_after_pruning_too(positions: str) -> None:
    """Blocks remember different numbers of tokens, and both ways of decoding agree."""
    pruning = tiny_qwen().pruning
    assert pruning is not None
    changes = {"pruning": pruning.model_dump() | {"positions": positions}}
    ours = random_qwen(changes)
    tokens, mask, codes = batch(ours)
    prompt = ours.prompt(tokens, mask)

    found = step_by_step(ours, prompt, codes)

    assert [memory.shape[3] for memory in prompt.memory] == [36, 36, 18]
    assert_close(found, ours.decode(prompt, codes.long()))


@pytest.mark.parametrize("changes", VARIANTS)
@torch.inference_mode()
def test_codes_fed_at_once_compute_what_steps_compute(changes: dict[str, object]) -> None:
    """All codes of an answer in one pass compute what teacher forcing computes."""
    ours = random_qwen(changes)
    tokens, mask, codes = batch(ours)
    prompt = ours.prompt(tokens, mask)

    found = at_once(ours, prompt, codes)

    assert_close(found, ours.decode(prompt, codes.long()))
