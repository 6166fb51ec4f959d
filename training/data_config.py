"""What a recipe may say about data: where it comes from, splits, item vectors, semantic IDs."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

CodebookSize = Annotated[int, Field(ge=1, le=65536)]


class DatasetConfig(BaseModel, frozen=True, extra="forbid"):
    """Where the interactions come from and what is done to them before anything is learned."""

    kind: Literal["ml100k", "folder", "amazon2014", "amazon2018", "amazon2023"]
    """`ml100k`: MovieLens 100K as the PyPI package recbole carries it; `folder`: docs/data.md;
    `amazon...`: a folder with one category's review dump of that release."""

    folder: Path | None = None
    """The data folder; `ml100k` finds its own when this is absent."""

    timestamp_unit: Literal["s", "ms"] = "s"
    """What the numbers in the column `timestamp` count (kind `folder`)."""

    text_fields: tuple[str, ...] = ("title", "brand", "categories")
    """Item columns that make up the text to embed, in this order; absent values are left out."""

    unknown_items: Literal["keep", "drop", "error"] = "keep"
    """Interactions with items that the items file lacks: keep (no title), drop, or refuse."""

    cold_items: Literal["keep", "drop"] = "keep"
    """Items without any interaction: keep them in the catalog or not."""

    drop_duplicates: bool = True
    """Drop rows equal to an earlier one in user, item, timestamp and position."""

    min_user_interactions: int = Field(default=1, ge=1)
    """Drop users with fewer, then rarer items, until nothing changes (k-core filter)."""

    min_item_interactions: int = Field(default=1, ge=1)
    """Drop the interactions of items with fewer; see min_user_interactions."""

    @model_validator(mode="after")
    def _folder_is_given(self) -> Self:
        if self.kind != "ml100k" and self.folder is None:
            raise ValueError(f'kind = "{self.kind}" needs folder = "path/to/the/data"')
        return self


class SplitConfig(BaseModel, frozen=True, extra="forbid"):
    """Which interactions train, which validate and which test."""

    kind: Literal["leave-one-out", "time"] = "leave-one-out"
    """`leave-one-out`: each user's last item tests, the one before validates. `time`: what happened
    before one moment trains; after it, each user's next item validates, and tests after another."""

    quantiles: tuple[float, float] = (0.8, 0.9)
    """kind = "time": the shares of all interactions before validation and before test begin."""

    dates: tuple[dt.date, dt.date] | None = None
    """kind = "time": the days (UTC) on which validation and test begin, instead of quantiles."""

    @model_validator(mode="after")
    def _borders_are_in_order(self) -> Self:
        if not 0 < self.quantiles[0] < self.quantiles[1] < 1:
            raise ValueError("quantiles must be two shares in ascending order between 0 and 1")
        if self.dates is not None and self.dates[0] >= self.dates[1]:
            raise ValueError("dates must be two days in ascending order")
        if self.kind != "time" and (self.quantiles != (0.8, 0.9) or self.dates is not None):
            raise ValueError('quantiles and dates are only read with kind = "time"')
        return self


class EmbeddingConfig(BaseModel, frozen=True, extra="forbid"):
    """How an item becomes a vector: a text block and a collaborative block, side by side."""

    text: Literal["wordllama", "minilm", "sentence-transformers", "vectors", "none"] = "wordllama"
    """`wordllama`: static token vectors, bundled, no torch; `minilm`: all-MiniLM-L6-v2, and
    `sentence-transformers`: the model in `encoder`, both by the extra "encoders"; `vectors`: a
    given .npy; `none`."""

    encoder: Path | None = None
    """A folder that sentence-transformers saved; for text = "sentence-transformers"."""

    vectors: Path | None = None
    """A .npy of shape (num_items, dim), rows in catalog order; for text = "vectors"."""

    text_weight: float = Field(default=1.0, gt=0)
    """The length that every item's text block is scaled to."""

    collaborative_weight: float = Field(default=0.0, ge=0)
    """The length of the collaborative block; 0 leaves it out."""

    collaborative_dim: int = Field(default=64, ge=1)
    """Singular vectors kept of the co-occurrence matrix."""

    window: int = Field(default=5, ge=1)
    """Items of one training history at most this far apart count as seen together."""

    seed: int = Field(default=0, ge=0)
    """Starts the iteration that finds the singular vectors."""

    @model_validator(mode="after")
    def _a_block_is_left(self) -> Self:
        if self.text == "vectors" and self.vectors is None:
            raise ValueError('text = "vectors" needs vectors = "path/to/file.npy"')
        if self.text != "vectors" and self.vectors is not None:
            raise ValueError('vectors is only read with text = "vectors"')
        if self.text == "sentence-transformers" and self.encoder is None:
            raise ValueError('text = "sentence-transformers" needs encoder = "path/to/folder"')
        if self.text != "sentence-transformers" and self.encoder is not None:
            raise ValueError('encoder is only read with text = "sentence-transformers"')
        if self.text == "none" and self.collaborative_weight == 0:
            raise ValueError('text = "none" needs collaborative_weight > 0: nothing else is left')
        return self


class RqVaeConfig(BaseModel, frozen=True, extra="forbid"):
    """How an RQ-VAE learns: a multilayer perceptron into few dimensions, quantized, and back."""

    latent_dim: int = Field(default=32, ge=1)
    """Dimensions that are quantized."""

    hidden_dims: tuple[Annotated[int, Field(ge=1)], ...] = (512, 256, 128)
    """Layers between vector and latent; the decoder has them in reverse."""

    max_steps: int = Field(default=2000, ge=1)
    """Optimiser steps (Adam), whatever the number of items."""

    batch_size: int = Field(default=512, ge=1)
    """Items of one step, drawn without replacement until all have been seen."""

    learning_rate: float = Field(default=1e-3, gt=0)

    beta: float = Field(default=0.25, ge=0)
    """Weight of the commitment: how strongly latents are drawn to their codes."""


class QuantizerConfig(BaseModel, frozen=True, extra="forbid"):
    """Where semantic IDs come from: item vectors, quantized, or a published table."""

    kind: Literal["residual-kmeans", "rq-vae", "published"] = "residual-kmeans"
    """`residual-kmeans`: fit one codebook per level; `rq-vae`: learn an encoder and the codebooks
    together; `published`: take the codes of `file`."""

    rq_vae: RqVaeConfig = RqVaeConfig()
    """The table [quantizer.rq_vae], for kind = "rq-vae"."""

    file: Path | None = None
    """A table with item_id, c1, c2, ... (tsv, csv, jsonl, parquet); for kind = "published"."""

    unpublished_items: Literal["error", "nearest"] = "error"
    """Catalog items that `file` lacks: refuse, or share the semantic ID of the nearest item by
    [embedding] that has one."""

    codebook_sizes: tuple[CodebookSize, ...] | None = Field(default=None, min_length=1)
    """Codes of each level; fewer where fewer items are left to tell apart. None = 256, 256, 256,
    or for published codes the largest of each level + 1."""

    collisions: Literal["bucket", "suffix"] = "bucket"
    """Items with the same codes share a semantic ID, or one more level tells them apart."""

    max_code_load: float | None = Field(default=None, ge=1)
    """No code holds more than this many times the mean of its level, rounded up: 1 fills all codes
    evenly. None = every item has its nearest code, however many share it."""

    normalize_residuals: bool = True
    """Scale what is left to unit length before each level, and cluster by cosine; an RQ-VAE's
    residuals stay as they are."""

    num_iterations: int = Field(default=25, ge=1)
    """k-means iterations per level; with an RQ-VAE of its start."""

    seed: int = Field(default=0, ge=0)
    """Chooses the first centroids, and all that is random in an RQ-VAE."""

    @property
    def wanted_sizes(self) -> tuple[int, ...]:
        """Codes asked for at each level; of published codes only the file knows."""
        return self.codebook_sizes or (256, 256, 256)

    @property
    def by_cosine(self) -> bool:
        """Whether each level codes the direction of what is left."""
        return self.normalize_residuals and self.kind != "rq-vae"

    @model_validator(mode="after")
    def _the_file_is_given(self) -> Self:
        if self.kind == "published" and self.file is None:
            raise ValueError('kind = "published" needs file = "path/to/published_sids.tsv"')
        if self.kind != "published" and self.file is not None:
            raise ValueError('file is only read with kind = "published"')
        return self

    @model_validator(mode="after")
    def _options_are_read(self) -> Self:
        if self.kind != "rq-vae" and self.rq_vae != RqVaeConfig():
            raise ValueError('[quantizer.rq_vae] is only read with kind = "rq-vae"')
        if self.kind == "published" and self.max_code_load is not None:
            raise ValueError('max_code_load is not read with kind = "published"')
        return self
