"""Our T5 as transformers' T5: the same sizes, the same weights."""

from typing import Any

import transformers
from torch import Tensor, nn
from transformers import T5ForConditionalGeneration

from model.config import T5Config
from model.semantic_id import BOS, PAD
from model.t5 import T5


def reference_t5(ours: T5) -> T5ForConditionalGeneration:
    """Transformers' T5 with our sizes and our weights, in eval mode."""
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
        head = ours.embedding.weight.new_zeros(ours.embedding.weight.shape)
        for output, (first, end) in zip(ours.outputs, ours.token_ranges, strict=True):
            head[first:end] = output.get_parameter("weight").detach()
        weights["lm_head.weight"] = head
    for stack in ("encoder", "decoder"):
        weights |= stack_weights(ours, stack)
    return {name: weight.detach().clone() for name, weight in weights.items()}


def stack_weights(ours: T5, stack: str) -> dict[str, Tensor]:
    """The weights of the encoder or the decoder under transformers' names."""
    part = getattr(ours, stack)
    bias_name = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    weights = {
        f"{stack}.final_layer_norm.weight": part.norm.weight,
        f"{stack}.{bias_name}": part.position_bias.table.weight,
    }
    for index, block in enumerate(part.blocks):
        named = _block_weights(block, is_decoder=stack == "decoder", config=ours.config)
        weights |= {f"{stack}.block.{index}.layer.{name}": w for name, w in named.items()}
    return weights


def _block_weights(block: Any, *, is_decoder: bool, config: T5Config) -> dict[str, Tensor]:
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
