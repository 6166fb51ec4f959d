"""Model configurations: presets, and what is refused with a reason."""

import pytest
from pydantic import ValidationError

from model.config import PruningConfig, QwenConfig, T5Config, parse_model_config

SIZES = {"codebook_sizes": (4, 4)}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [("sap", PruningConfig()), ("rastp", PruningConfig.rastp()), ("none", None)],
)
def test_pruning_can_be_a_preset(preset: str, expected: PruningConfig | None) -> None:
    """A recipe may say pruning = "rastp"."""
    config = parse_model_config({"backbone": "t5", "pruning": preset, **SIZES})

    assert config.pruning == expected


def test_the_backbone_decides_the_fields() -> None:
    """Each backbone has its own; both survive a round trip through plain values."""
    for backbone, kind in (("t5", T5Config), ("qwen", QwenConfig)):
        config = parse_model_config({"backbone": backbone, **SIZES})
        assert isinstance(config, kind)
        assert parse_model_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "t5", "codebook_sizes": (4, 0)}, "every codebook needs at least one code"),
        (
            {"backbone": "t5", "pruning": "magic"},
            "no preset 'magic'; there are sap, rastp and none",
        ),
        ({"backbone": "t5", "num_layers": 2, "pruning": {"layer": 1}}, "saves nothing"),
        ({"backbone": "t5", "feed_forward": "gated", "mlp_layers": 2}, "exists for relu only"),
        ({"backbone": "t5", "num_kv_heads": 2}, "Extra inputs are not permitted"),
        ({"backbone": "qwen", "num_heads": 5, "num_kv_heads": 2}, "no multiple of num_kv_heads"),
        ({"backbone": "qwen", "d_kv": 7}, "rotary positions turn pairs"),
        ({"backbone": "gru"}, "does not match any of the expected tags"),
        ({}, "Unable to extract tag"),
    ],
)
def test_what_cannot_be_built_is_refused(fields: dict[str, object], message: str) -> None:
    """The reason is in the error."""
    with pytest.raises(ValidationError, match=message):
        parse_model_config({**SIZES, **fields})


def test_without_pruning_the_ratio_is_one() -> None:
    """And an item takes one token more with a separator."""
    config = T5Config(codebook_sizes=(4, 4), pruning=None, separator=True)

    assert config.default_retention_ratio == 1.0
    assert config.tokens_per_item == 3
