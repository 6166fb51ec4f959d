"""What a recipe may say; every table is frozen, and an unknown key is an error."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, JsonValue, model_validator

from model.config import AnyModelConfig, parse_model_config
from model.errors import ModelError
from model.huggingface import with_checkpoint
from training.data_config import DatasetConfig, EmbeddingConfig, QuantizerConfig, SplitConfig
from training.evaluation_config import EvaluationConfig
from training.toml_files import read_toml, toml_path, validated

RECIPES = Path(__file__).parent / "recipes"
DATA = "{data}"
"""Stands in a recipe for the folder that the command line names."""


class TrainerConfig(BaseModel, frozen=True, extra="forbid"):
    """How the model learns, in one stage: next items of training histories, plus MAP targets."""

    layout: Literal["answer", "dense"] = "answer"
    """`answer`: a history as prompt with SAP on, the loss on the item after it, one window per
    position. `dense`: the loss at every item of a history in parallel, SAP off; decoder-only."""

    seed: int = Field(default=0, ge=0)
    """Decides initial weights, the order of batches and dropout."""

    max_steps: int = Field(ge=1)
    """Optimiser steps; the learning rate is planned for exactly as many."""

    batch_tokens: int = Field(default=8192, ge=1)
    """Padded history tokens of one batch; histories of like lengths share a batch."""

    accumulate: int = Field(default=1, ge=1)
    """Batches of one step, one after the other or shared out by torchrun's processes; the step
    follows the mean of their gradients."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16`: matrix products of training by autocast; weights, loss and validation stay
    float32. Pays on GPUs, and on CPUs with bfloat16 units."""

    optimizer: Literal["adamw", "adam"] = "adamw"
    """AdamW, or Adam with weight_decay as part of the gradient."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest one."""

    schedule: Literal["cosine", "inverse-sqrt", "constant"] = "cosine"
    """After the warm-up: half a cosine down to a fiftieth by the last step, one over the root of
    the steps taken, or no change."""

    warmup_steps: int = Field(default=100, ge=0)
    """Steps over which the learning rate rises from 0."""

    weight_decay: float = Field(default=0.01, ge=0)

    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of all gradients together."""

    auxiliary: Literal["items", "tokens"] = "items"
    """What is predicted beside the next code: the same level of the items after the next one
    (MAP), or the further levels of the next item (multi-token prediction)."""

    num_future_items: int = Field(default=2, ge=0)
    """MAP: items after the next one that are predicted too; 0 turns MAP off. With auxiliary =
    "tokens": levels after the one predicted, at most all there are."""

    future_weight: float = Field(default=0.3, ge=0)
    """MAP: weight of the mean loss over further items, or levels."""

    final_future_weight: float | None = Field(default=None, ge=0)
    """MAP: the weight moves in a straight line to this one by the last step: first learn from many
    targets, then for the next item alone. None = it stays."""

    future_decay: float = Field(default=1.0, gt=0, le=1)
    """MAP: each further step counts this much of the one before."""

    code_embedding_scale: float = Field(default=0.0, ge=0)
    """Start code embeddings from their centroids, scaled to this spread; 0 starts from noise.
    The first stage's counts."""

    validate_every: int = Field(default=500, ge=1)
    """Steps between validations by the served decoder; the best one's weights are exported."""

    validation_users: int = Field(default=2000, ge=1)
    """At most this many users validate during training, the same ones every time."""

    patience: int = Field(default=10, ge=1)
    """Stop after this many validations without a better recall@10."""

    resume_every: int = Field(default=100, ge=1)
    """Steps between the checkpoints from which an interrupted training goes on."""

    retention_ratio: float | None = Field(default=None, gt=0, le=1)
    """SAP's ratio while training in layout "answer"; 1 trains without SAP a model that can be
    served with it. None = the model's."""

    num_threads: int = Field(default=1, ge=1)
    """Torch's threads on a CPU. On two idle cores a second one gains 1.7 times; on busy ones it
    waits for its turn at every operation and loses ten times."""

    def num_heads(self, num_levels: int) -> int:
        """One per further step."""
        if self.auxiliary == "tokens":
            return min(self.num_future_items, num_levels - 1)
        return self.num_future_items

    def future_weights(self, num_levels: int, step: int) -> tuple[float, ...]:
        """MAP's weight of each head at a step of the training."""
        weight = self.future_weight
        if self.final_future_weight is not None:
            weight += (self.final_future_weight - weight) * min(1.0, step / self.max_steps)
        return tuple(weight * self.future_decay**head for head in range(self.num_heads(num_levels)))


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """A whole run, from raw interactions to a bundle; one TOML file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Names the run's folder and the bundle."""

    dataset: DatasetConfig
    split: SplitConfig = SplitConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    model: dict[str, JsonValue] = {}
    """ModelConfig without codebook_sizes, which the quantizer finds. One key more: `init_from`, a
    folder with a Qwen2 or Qwen3 checkpoint that gives the first weights and all sizes."""
    pretrainer: TrainerConfig | None = None
    """A stage before the trainer's, which then starts from the best weights of this one."""
    trainer: TrainerConfig
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _the_model_can_be_built(self) -> Self:
        if "codebook_sizes" in self.model:
            raise ValueError("codebook_sizes belongs to [quantizer]; [model] takes it from there")
        shape = self.model_config_for(self.quantizer.wanted_sizes)
        layouts = {stage.layout for stage in (self.pretrainer, self.trainer) if stage is not None}
        if "dense" in layouts and shape.backbone != "qwen":
            raise ValueError(
                'layout = "dense" needs backbone = "qwen": the encoder of a '
                f"{shape.backbone} sees the items it would have to predict"
            )
        if self.trainer.layout == "dense" and shape.default_retention_ratio < 1:
            raise ValueError(
                'layout = "dense" trains without SAP: set pruning = "none" in [model], or make it '
                'the [pretrainer] of an "answer" stage'
            )
        return self

    @property
    def init_from(self) -> Path | None:
        """The checkpoint folder that the model starts from."""
        folder = self.model.get("init_from")
        if not isinstance(folder, str | None):
            raise ModelError(f"[model]: init_from should be a folder, not {folder!r}")
        return None if folder is None else Path(folder)

    def model_config_for(self, codebook_sizes: tuple[int, ...]) -> AnyModelConfig:
        """The model's configuration, once the quantizer's codebooks are known.

        Raises:
            ModelError: `init_from` is not a checkpoint that can be read, or has other sizes.
        """
        fields = {name: value for name, value in self.model.items() if name != "init_from"}
        if self.init_from is not None:
            fields = with_checkpoint(fields, self.init_from)
        return parse_model_config({**fields, "codebook_sizes": codebook_sizes})


def read_recipe(name: str, data: Path | None = None) -> Recipe:
    """Read a recipe by path, or by the name of one that comes with the program.

    Args:
        name: e.g. "demo-ml100k", or a path that ends in .toml.
        data: the folder that `{data}` stands for in the recipe.

    Raises:
        ModelError: no such recipe, no TOML, or a field that is unknown or out of range.
    """
    where = str(toml_path(name, RECIPES))
    return validated(Recipe, read_recipe_table(name, data), where)


def read_recipe_table(name: str, data: Path | None = None) -> dict[str, JsonValue]:
    """What stands in a recipe's file, not yet validated; see `read_recipe`."""
    table = read_toml(name, RECIPES, "recipe")
    where = toml_path(name, RECIPES)
    return {key: _with_data(value, data, where) for key, value in table.items()}


def _with_data(value: JsonValue, data: Path | None, where: Path) -> JsonValue:
    """The value with `{data}` replaced in every text."""
    if isinstance(value, str) and DATA in value:
        if data is None:
            raise ModelError(f"{where}: reads a folder of your choice: give it with --data FOLDER")
        return value.replace(DATA, str(data))
    if isinstance(value, dict):
        return {key: _with_data(each, data, where) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_data(each, data, where) for each in value]
    return value
