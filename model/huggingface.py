"""Start a Qwen from a language model: a local folder as Hugging Face's transformers writes it.

The folder holds config.json and either model.safetensors or shards with their index. Qwen2 and
Qwen2.5 (attention biases) and Qwen3 (normed queries and keys) are understood. The checkpoint
decides all sizes; its text embeddings are kept as rows of their own, so nothing about semantic IDs
and their tokens changes. Our tokens start at the mean of the text rows plus small noise.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import AliasChoices, BaseModel, Field, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.config import QwenConfig
from model.errors import ModelError
from model.qwen import Qwen

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
NOISE = 0.1
"""New rows scatter around the mean text row by this share of the text rows' own spread."""


class _Rope(BaseModel, frozen=True):
    """Rotary positions; scaled ones are refused."""

    rope_theta: float | None = None
    rope_type: Literal["default"] = Field(
        default="default", validation_alias=AliasChoices("rope_type", "type")
    )


class _Checkpoint(BaseModel, frozen=True):
    """What we read of a config.json; a value we could not honour fails validation."""

    model_type: Literal["qwen2", "qwen3"]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: Literal["silu"] = "silu"
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    use_sliding_window: Literal[False] = False
    rope_theta: float = 10_000.0  # transformers 4; its default where a file says nothing
    rope_scaling: _Rope | None = None
    rope_parameters: _Rope | None = None  # transformers 5
    quantization_config: None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder's config.json, or raise ModelError."""
        path = folder / CONFIG
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ModelError(f"{folder}: no checkpoint, {CONFIG} cannot be read") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ModelError(
                f"{path}: {where}: {first['msg']}; a Qwen2, Qwen2.5 or Qwen3 model is needed"
            ) from error

    @property
    def d_kv(self) -> int:
        """Width of one head; where a file says nothing, as transformers has it."""
        if self.head_dim is not None:
            return self.head_dim
        return 128 if self.model_type == "qwen3" else self.hidden_size // self.num_attention_heads

    @property
    def theta(self) -> float:
        """The rotary base, in either spelling."""
        newer = self.rope_parameters
        return self.rope_theta if newer is None or newer.rope_theta is None else newer.rope_theta


def checkpoint_fields(folder: Path) -> dict[str, JsonValue]:
    """The fields of QwenConfig that a checkpoint decides.

    Raises:
        ModelError: no checkpoint, or one of a kind that we could not compute faithfully.
    """
    found = _Checkpoint.read(folder)
    return {
        "backbone": "qwen",
        "d_model": found.hidden_size,
        "d_ff": found.intermediate_size,
        "d_kv": found.d_kv,
        "num_layers": found.num_hidden_layers,
        "num_heads": found.num_attention_heads,
        "num_kv_heads": found.num_key_value_heads or found.num_attention_heads,
        "qk_norm": found.model_type == "qwen3",
        "attention_bias": found.model_type == "qwen2",
        "rope_theta": found.theta,
        "norm_epsilon": found.rms_norm_eps,
        "tie_outputs": found.tie_word_embeddings,
        "text_vocabulary": found.vocab_size,
    }


def with_checkpoint(fields: Mapping[str, JsonValue], folder: Path) -> dict[str, JsonValue]:
    """Fields of a QwenConfig with those that a checkpoint decides, or ModelError if they differ."""
    found = checkpoint_fields(folder)
    for name in sorted(found.keys() & fields):
        if fields[name] != found[name]:
            raise ModelError(
                f"{folder}: {name} is {found[name]!r} and should be {fields[name]!r}; leave {name} "
                "out to take the checkpoint's, or start from another one"
            )
    return {**found, **fields}


def load_checkpoint(model: Qwen, folder: Path, generator: torch.Generator) -> None:
    """Give a model the checkpoint's weights; its own tokens start near the mean text token.

    Args:
        model: of the sizes that checkpoint_fields names.
        folder: with config.json and weights in any float type.
        generator: for the noise that tells new tokens apart.

    Raises:
        ModelError: a file or tensor is missing, has another shape, or has no place in the model.
    """
    parts = _parts(model.config)
    head = EMBEDDING if model.config.tie_outputs else HEAD
    with ExitStack() as stack:
        tensors = _open(folder, stack)
        expected = {head, *(name for names in parts.values() for name in names)}
        missing, unknown = expected - tensors.keys(), tensors.keys() - expected - {HEAD}
        for name in sorted(missing):
            raise ModelError(f"{folder}: {name} is missing; the checkpoint is not whole")
        for name in sorted(unknown):
            raise ModelError(f"{folder}: {name} has no place in a {model.config.backbone} model")
        for ours, parameter in model.named_parameters():
            if ours in parts:
                found = torch.cat([tensors[name]() for name in parts[ours]])
                _copy(parameter, found, f"{folder}: {' and '.join(parts[ours])}")
        _scatter(model.embedding.weight, tensors[EMBEDDING](), generator)
        for output in model.outputs:
            _scatter(output.get_parameter("weight"), tensors[HEAD](), generator)


def checkpoint_files(folder: Path) -> list[Path]:
    """Every file that load_checkpoint reads, config.json first."""
    files = [folder / CONFIG, *_weight_files(folder)]
    for path in files:
        if not path.is_file():
            raise ModelError(f"{path} is missing; the checkpoint is not whole")
    return files


def _parts(config: QwenConfig) -> dict[str, tuple[str, ...]]:
    """Our parameters, each with the checkpoint's tensors that make it up, one below the other."""
    parts: dict[str, tuple[str, ...]] = {
        "text_embedding.weight": (EMBEDDING,),
        "norm.weight": ("norm.weight",),
    }
    block = {
        "attention_norm.weight": ("input_layernorm.weight",),
        "ff_norm.weight": ("post_attention_layernorm.weight",),
        "attention.qkv.weight": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
        "attention.out.weight": ("self_attn.o_proj.weight",),
        "ff.gate_up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        "ff.down.weight": ("mlp.down_proj.weight",),
    }
    if config.attention_bias:
        block["attention.qkv.bias"] = tuple(f"self_attn.{part}_proj.bias" for part in "qkv")
    if config.qk_norm:
        block["attention.query_norm.weight"] = ("self_attn.q_norm.weight",)
        block["attention.key_norm.weight"] = ("self_attn.k_norm.weight",)
    for index in range(config.num_layers):
        for ours, theirs in block.items():
            parts[f"blocks.{index}.{ours}"] = tuple(f"layers.{index}.{name}" for name in theirs)
    return parts


def _weight_files(folder: Path) -> list[Path]:
    """The one weight file, or the shards that the index names."""
    index = folder / INDEX
    if not index.exists():
        return [folder / WEIGHTS]
    try:
        return sorted(
            {folder / name for name in json.loads(index.read_text())["weight_map"].values()}
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{index}: not an index of shards; download the checkpoint again"
        ) from error


def _open(folder: Path, stack: ExitStack) -> dict[str, Callable[[], Tensor]]:
    """What reads each tensor, by its name without the `model.` of a causal language model."""
    readers: dict[str, Callable[[], Tensor]] = {}
    for path in _weight_files(folder):
        try:
            file = stack.enter_context(safe_open(path, framework="pt"))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read; download the checkpoint again") from error
        names = file.keys()
        readers |= {name.removeprefix("model."): partial(file.get_tensor, name) for name in names}
    return readers


def _copy(parameter: Tensor, found: Tensor, what: str) -> None:
    if found.shape != parameter.shape:
        raise ModelError(
            f"{what} of shape {tuple(found.shape)}: {CONFIG} asks for {tuple(parameter.shape)}"
        )
    parameter.data.copy_(found)


def _scatter(rows: Tensor, text: Tensor, generator: torch.Generator) -> None:
    """Start (rows, d_model) of new tokens around the mean of (vocabulary, d_model) text tokens."""
    text = text.float()
    noise = torch.randn(rows.shape, generator=generator) * text.std(dim=0)
    rows.data.copy_(text.mean(dim=0) + NOISE * noise)
