"""What a recipe may say about evaluation: users, beams, retention ratios, and baselines."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator


class SasrecConfig(BaseModel, frozen=True, extra="forbid"):
    """How the baseline "sasrec" is trained; sizes and names as in [model] and [trainer]."""

    d_model: int = Field(default=64, ge=1)
    num_layers: int = Field(default=2, ge=1)
    num_heads: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)

    max_history_items: int = Field(default=50, ge=1)
    """Time goes with it: shorter histories are padded to this length."""

    loss: Literal["ce", "bce", "bpr-max", "top1"] = "ce"
    """Of the next item against the other next items of its batch and `num_negatives` more."""

    num_negatives: int = Field(default=2048, ge=0)
    """Items drawn for each batch."""

    negative_exponent: float = Field(default=0.0, ge=0)
    """They are drawn by popularity to this power; 0 = alike."""

    num_epochs: int = Field(default=50, ge=1)

    batch_size: int = Field(default=256, ge=2)
    """Next items of one step."""

    learning_rate: float = Field(default=1e-3, gt=0)

    validate_every: int = Field(default=5, ge=1)
    """Epochs between validations; the weights with the best recall@10 count."""

    validation_users: int = Field(default=2000, ge=1)
    """At most this many users validate, the same ones every time."""

    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model {self.d_model} is no multiple of num_heads {self.num_heads}")
        if self.validate_every > self.num_epochs:
            raise ValueError("validate_every is larger than num_epochs: no weights would be chosen")
        return self


BaselineName = Literal["popularity", "transitions", "item-knn", "sasrec"]


class EvaluationConfig(BaseModel, frozen=True, extra="forbid"):
    """What is measured on the test split, by the code that serves."""

    retention_ratios: tuple[float, ...] = (1.0, 0.5, 1 / 3)
    """Ratios to validate beside the trained one; a bundle answers only with validated ratios."""

    beam_width: int = Field(default=20, ge=10)

    max_users: int = Field(default=100_000, ge=1)
    """Test at most this many users, evenly spread."""

    beam_widths: tuple[Annotated[int, Field(ge=1)], ...] = (10, 20, 50)
    """Beams that are compared with each other and with exact decoding."""

    exact_users: int = Field(default=200, ge=1)
    """At most this many users tell how far they are from it: exact decoding takes its time."""

    baselines: tuple[BaselineName, ...] = ("popularity", "transitions", "item-knn")
    """Measured on the same users as the model. `sasrec` is trained first, which takes a while and
    the extra "baselines"."""

    sasrec: SasrecConfig = SasrecConfig()

    num_threads: int = Field(default=1, ge=1)
    """Torch's threads while evaluating."""
