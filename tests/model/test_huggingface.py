"""What a checkpoint folder says, how new tokens start, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.errors import ModelError
from model.huggingface import checkpoint_fields, checkpoint_files, with_checkpoint
from tests.checkpoints import change_config, change_tensors, start, write_checkpoint


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_the_older_spelling_of_a_configuration_means_the_same(tmp_path: Path, kind: str) -> None:
    """rope_theta by itself and no head_dim, as transformers 4 wrote Qwen2.5."""
    write_checkpoint(tmp_path, kind)
    newer = checkpoint_fields(tmp_path)
    absent = ("rope_parameters", "head_dim") if kind == "qwen2" else ("rope_parameters",)

    change_config(tmp_path, absent, rope_theta=5000, rope_scaling=None)

    assert checkpoint_fields(tmp_path) == newer
    assert newer["rope_theta"] == 5000.0
    assert newer["d_kv"] == (4 if kind == "qwen2" else 8)


def test_where_a_configuration_says_nothing_transformers_defaults_hold(tmp_path: Path) -> None:
    """No rope_theta, head_dim or number of key-value heads in a Qwen3."""
    write_checkpoint(tmp_path, "qwen3")

    change_config(tmp_path, ("rope_parameters", "head_dim", "num_key_value_heads"))

    found = checkpoint_fields(tmp_path)
    expected = {"rope_theta": 10_000.0, "d_kv": 128, "num_kv_heads": 4}
    assert {name: found[name] for name in expected} == expected


def test_a_checkpoint_without_its_output_layer_will_do_when_tied(tmp_path: Path) -> None:
    """Names without `model.`, as embedding models have them, and bfloat16 weights."""
    write_checkpoint(tmp_path, "qwen3")
    expected = start(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    short = {name.removeprefix("model."): value.bfloat16() for name, value in tensors.items()}
    save_file(short, tmp_path / "model.safetensors")

    found = start(tmp_path)

    weights = found.state_dict()
    assert {value.dtype for value in weights.values()} == {torch.float32}
    rounded = expected.blocks[1].get_submodule("ff").get_parameter("down.weight").bfloat16()
    assert weights["blocks.1.ff.down.weight"].equal(rounded.float())


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_start_near_the_mean_text_token(tmp_path: Path, tied: bool) -> None:
    """Rows differ, by a tenth of the spread of the text rows around the same mean."""
    reference = write_checkpoint(tmp_path, "qwen2", tied=tied)

    ours = start(tmp_path)

    tables = [(ours.embedding.weight, reference.get_input_embeddings().weight)]
    if not tied:
        new = torch.cat([output.get_parameter("weight") for output in ours.outputs])
        tables.append((new, reference.get_output_embeddings().weight))
    for rows, text in tables:
        away = (rows - text.mean(dim=0)) / text.std(dim=0)
        assert away.std().item() == pytest.approx(0.1, rel=0.2)
        assert abs(away.mean().item()) < 0.02
    assert not ours.get_parameter("text_embedding.weight").requires_grad


REFUSED = [
    ({"model_type": "llama"}, "model_type: Input should be 'qwen2' or 'qwen3'"),
    ({"use_sliding_window": True}, "use_sliding_window: Input should be False"),
    ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling.*: Input should be 'default"),
    ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters.*: Input should be 'default'"),
    ({"quantization_config": {"bits": 4}}, "quantization_config: Input should be null"),
    ({"hidden_act": "gelu"}, "hidden_act: Input should be 'silu'"),
    ({"hidden_size": None}, "hidden_size: Input should be a valid integer"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_we_could_not_compute_faithfully_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Another architecture, scaled positions, a sliding window, quantized weights."""
    write_checkpoint(tmp_path, "qwen3")
    change_config(tmp_path, **change)

    with pytest.raises(ModelError, match=message):
        checkpoint_fields(tmp_path)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    """The error names the folder and the file."""
    with pytest.raises(ModelError, match=r"no checkpoint, config\.json cannot be read"):
        checkpoint_fields(tmp_path)


def test_sizes_that_a_recipe_says_must_be_the_checkpoints(tmp_path: Path) -> None:
    """Equal ones pass; a different one is named with both values."""
    write_checkpoint(tmp_path, "qwen3")

    assert with_checkpoint({"num_layers": 3, "d_kv": 8}, tmp_path)["d_model"] == 16
    with pytest.raises(ModelError, match="num_layers is 3 and should be 24; leave num_layers out"):
        with_checkpoint({"num_layers": 24}, tmp_path)


BROKEN = [
    ({"remove": "model.norm.weight"}, "norm.weight is missing; the checkpoint is not whole"),
    ({"added": {"odd.bias": torch.zeros(2)}}, "odd.bias has no place in a qwen model"),
    (
        {"added": {"model.layers.0.self_attn.q_proj.weight": torch.zeros(8, 16)}},
        r"q_proj.weight and layers.*of shape \(40, 16\): config.json asks for \(64, 16\)",
    ),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """A missing tensor, one too many, one of another shape."""
    write_checkpoint(tmp_path, "qwen3")
    change_tensors(tmp_path, **change)

    with pytest.raises(ModelError, match=message):
        start(tmp_path)


def test_a_checkpoint_with_a_lost_or_broken_file_is_named(tmp_path: Path) -> None:
    """A shard that is not there, or no safetensors; an index that is none."""
    write_checkpoint(tmp_path, "qwen3", shard="8KB")
    shard = checkpoint_files(tmp_path)[-1]

    shard.write_bytes(b"not tensors")
    with pytest.raises(ModelError, match=f"{shard.name}: cannot be read"):
        start(tmp_path)
    shard.unlink()
    with pytest.raises(ModelError, match=f"{shard.name} is missing"):
        checkpoint_files(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ModelError, match="not an index of shards"):
        checkpoint_files(tmp_path)
