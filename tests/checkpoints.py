"""Tiny checkpoint folders as transformers writes them, and our models started from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import JsonValue
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import QwenConfig
from model.huggingface import load_checkpoint, with_checkpoint
from model.qwen import Qwen

TEXT = 50  # text tokens of every checkpoint here
SIZES = {
    "vocab_size": TEXT,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    "initializer_range": 0.3,
}


def write_checkpoint(folder: Path, kind: str, *, tied: bool = True, shard: str = "1GB") -> Any:
    """Write a random model as transformers does, and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "qwen3":
            config: Any = transformers.Qwen3Config(**SIZES, head_dim=8, tie_word_embeddings=tied)
            reference: Any = transformers.Qwen3ForCausalLM(config)
        else:
            config = transformers.Qwen2Config(**SIZES, tie_word_embeddings=tied)
            reference = transformers.Qwen2ForCausalLM(config)
        for parameter in reference.parameters():
            if parameter.dim() == 1:  # biases and norms that are not trivial either
                parameter.data += 0.3 * torch.randn(parameter.shape)
    reference.save_pretrained(folder, max_shard_size=shard)
    return reference.eval()


def change_config(folder: Path, remove: tuple[str, ...] = (), **changes: Any) -> None:
    """Edit config.json."""
    path = folder / "config.json"
    fields = {k: v for k, v in json.loads(path.read_text()).items() if k not in remove}
    path.write_text(json.dumps(fields | changes))


def change_tensors(folder: Path, remove: str = "", added: Mapping[str, Tensor] = {}) -> None:
    """Edit model.safetensors."""
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(remove, None)
    save_file({**tensors, **added}, folder / "model.safetensors")


def start(folder: Path, **changes: JsonValue) -> Qwen:
    """Our model, started from a checkpoint."""
    own: dict[str, JsonValue] = {"max_history_items": 12, "pruning": {"layer": 1}}
    fields = with_checkpoint(own | changes, folder)
    config = QwenConfig.model_validate({**fields, "codebook_sizes": (7, 5, 6)})
    model = Qwen(config).eval()
    load_checkpoint(model, folder, torch.Generator().manual_seed(0))
    return model
