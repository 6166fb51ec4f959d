"""What the weights depend on: frozen, validated, stored in every bundle's manifest."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, TypeAdapter, field_validator, model_validator

Codes = tuple[int, ...]


class PruningConfig(BaseModel, frozen=True, extra="forbid"):
    """Semantic Adaptive Pruning (SAP, arXiv:2604.05329): which history tokens survive one block.

    The defaults are SAP as served. `rastp()` is RASTP (arXiv:2511.16943) as its authors' program
    computes it, kept for comparison.
    """

    layer: int = Field(default=1, ge=0)
    """Tokens are dropped after this block, counted from 0."""
    retention_ratio: float = Field(default=1 / 3, gt=0, le=1)
    """Kept share of a history's real tokens; 1 turns pruning off."""
    score: Literal["product", "attention", "norm", "random", "recent"] = "product"
    """What ranks the tokens: attention received x state norm, one of the two, or a control."""
    norm: Literal["l1", "l2"] = "l1"
    """The state norm: semantic saliency of a token."""
    budget: Literal["valid", "padded"] = "valid"
    """What the ratio is a share of: the history's own tokens, or the padded length (RASTP)."""
    positions: Literal["keep", "reset"] = "keep"
    """Kept tokens keep their distances, or lose all position information (RASTP)."""
    protect_newest: bool = True
    """The newest item's tokens always stay: the click that caused the request."""
    min_items: int = Field(default=2, ge=0)
    """At least this many items' worth of tokens stays."""
    count_padding: bool = False
    """Let padded queries vote (RASTP); makes answers depend on batch mates."""
    centrality: Literal["sum", "mean", "last"] = "sum"
    """Attention received in total, per query that can look, or from the newest queries only. In a
    causal model more queries can look at older tokens, so "sum" favours them."""
    last_queries: int = Field(default=16, ge=1)
    """How many of the newest queries vote with centrality = "last"."""

    @classmethod
    def rastp(cls) -> Self:
        """RASTP as coded: a third of the padded length, after block 1, no positions afterwards."""
        return cls(
            layer=1,
            retention_ratio=1 / 3,
            budget="padded",
            positions="reset",
            protect_newest=False,
            min_items=0,
            count_padding=True,
        )


class ModelConfig(BaseModel, frozen=True, extra="forbid"):
    """What both backbones have in common."""

    backbone: Literal["t5", "qwen"]
    codebook_sizes: Codes = Field(min_length=1)
    """Codes per level; the semantic ID has as many levels."""
    max_history_items: int = Field(default=20, ge=1)
    """The model reads this many of the newest items."""
    separator: bool = False
    """A learned token after every item of the history, as in GRID."""
    d_model: int = Field(default=128, ge=1)
    num_heads: int = Field(default=6, ge=1)
    d_kv: int = Field(default=64, ge=1)
    """Width of one head."""
    d_ff: int = Field(default=1024, ge=1)
    num_layers: int = Field(default=4, ge=1)
    """Blocks that read the history."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    tie_outputs: bool = False
    """Score codes by their input embeddings instead of weights of their own."""
    norm_epsilon: float = Field(default=1e-6, gt=0)
    pruning: PruningConfig | None = PruningConfig()
    """SAP; a table, or one of the presets "sap", "rastp" and "none"."""

    @field_validator("pruning", mode="before")
    @classmethod
    def _preset(cls, value: object) -> object:
        presets = {"sap": PruningConfig(), "rastp": PruningConfig.rastp(), "none": None}
        if not isinstance(value, str):
            return value
        if value not in presets:
            raise ValueError(f"no preset {value!r}; there are sap, rastp and none")
        return presets[value]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(size < 1 for size in self.codebook_sizes):
            raise ValueError("every codebook needs at least one code")
        if self.pruning is not None and self.pruning.layer >= self.num_layers - 1:
            raise ValueError(
                f"pruning after block {self.pruning.layer} of {self.num_layers} saves nothing: "
                "choose an earlier block"
            )
        return self

    @property
    def num_levels(self) -> int:
        """Codes in one semantic ID."""
        return len(self.codebook_sizes)

    @property
    def tokens_per_item(self) -> int:
        """Tokens that one history item takes up."""
        return self.num_levels + self.separator

    @property
    def default_retention_ratio(self) -> float:
        """The ratio that the weights were trained with; 1 without pruning."""
        return 1.0 if self.pruning is None else self.pruning.retention_ratio


class T5Config(ModelConfig, frozen=True, extra="forbid"):
    """A T5-like encoder-decoder; the defaults are TIGER's (arXiv:2305.05065)."""

    backbone: Literal["t5"] = "t5"
    num_decoder_layers: int = Field(default=4, ge=1)
    feed_forward: Literal["relu", "gated"] = "relu"
    mlp_layers: Literal[1, 2] = 1
    """Hidden layers of each feed-forward part; 2 is GRID's variant, with biases."""
    recency: bool = False
    """Add a learned vector per item to its tokens, by how many items came after it. T5's decoder
    sees no positions of the history otherwise, and what came last matters most."""
    relative_attention_num_buckets: int = Field(default=32, ge=2)
    relative_attention_max_distance: int = Field(default=128, ge=2)

    @model_validator(mode="after")
    def _check_feed_forward(self) -> Self:
        if self.feed_forward == "gated" and self.mlp_layers == 2:
            raise ValueError("mlp_layers = 2 exists for relu only")
        return self


class QwenConfig(ModelConfig, frozen=True, extra="forbid"):
    """A decoder-only model like Qwen2.5 (attention biases) or Qwen3 (normed queries and keys)."""

    backbone: Literal["qwen"] = "qwen"
    num_kv_heads: int = Field(default=2, ge=1)
    """Heads of keys and values; each serves num_heads / num_kv_heads query heads."""
    qk_norm: bool = True
    """Norm queries and keys per head, as Qwen3 does."""
    attention_bias: bool = False
    """Biases of query, key and value, as in Qwen2.5."""
    rope_theta: float = Field(default=1_000_000.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    text_vocabulary: int = Field(default=0, ge=0)
    """Text tokens of the language model that this one started from; their embeddings are kept."""
    prefix_tokens: Codes = ()
    """Text tokens in front of every history, e.g. an instruction: never dropped, not history."""

    @model_validator(mode="after")
    def _check_prefix(self) -> Self:
        unknown = [token for token in self.prefix_tokens if not 0 <= token < self.text_vocabulary]
        if unknown:
            raise ValueError(
                f"prefix token {unknown[0]} is outside the text vocabulary of "
                f"{self.text_vocabulary} tokens, which comes with a checkpoint to start from"
            )
        return self

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.d_kv % 2:
            raise ValueError(f"d_kv {self.d_kv} is odd: rotary positions turn pairs")
        return self


AnyModelConfig = Annotated[T5Config | QwenConfig, Field(discriminator="backbone")]

_ADAPTER: TypeAdapter[T5Config | QwenConfig] = TypeAdapter(AnyModelConfig)


def parse_model_config(fields: object) -> T5Config | QwenConfig:
    """Validate a table such as a recipe's; it must name its backbone."""
    return _ADAPTER.validate_python(fields)
