"""Placing a new item: from its vector to the codes of the items it is most like.

A code is always the nearest here, also where training filled the codes evenly. All is computed in
float64, so that rounding, which differs with the number of items, decides nothing.

Shape words: num_items; dim of an item's vector; width of what is quantized: the latent of an
encoder, without one the vector itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.errors import ModelError

Vectors = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]

ROUNDING = 1e-4
"""What is left of a unit vector and shorter than this says nothing; the codes are float32."""
BATCH = 4096
"""Items at a time."""


class Layer(NamedTuple):
    """One linear layer: weight (out, in), bias (out,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Placement:
    """What a bundle knows about making codes of a vector; the last level may be a suffix without.

    Args:
        codebooks: (codebook_size, width) float32 each; none for published semantic IDs.
        encoder: layers from the vector to its latent, a ReLU between two; none for k-means.
        normalize_residuals: whether each level codes the direction of what is left.
        text_weight: length of the text block, which comes first in a vector; 0 = it has none.
    """

    codebooks: tuple[Tensor, ...]
    encoder: tuple[Layer, ...] = ()
    normalize_residuals: bool = True
    text_weight: float = 1.0

    @property
    def dim(self) -> int:
        """Numbers in an item's vector, or ModelError where nothing can be placed."""
        if not self.codebooks:
            raise ModelError("published semantic IDs have no codebooks that could place an item")
        return (self.encoder[0].weight if self.encoder else self.codebooks[0]).shape[1]

    def to_tensors(self) -> dict[str, Tensor]:
        """For a safetensors file; `from_tensors` reads them back."""
        tensors = {f"codebook_{n}": table for n, table in enumerate(self.codebooks)}
        for n, layer in enumerate(self.encoder):
            tensors |= {f"encoder.{n}.weight": layer.weight, f"encoder.{n}.bias": layer.bias}
        tensors["normalize_residuals"] = torch.tensor(self.normalize_residuals)
        tensors["text_weight"] = torch.tensor(self.text_weight, dtype=torch.float64)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Placement":
        """What a file says; what an older one does not say has its default."""
        num_levels = sum(name.startswith("codebook_") for name in tensors)
        num_layers = sum(name.startswith("encoder.") for name in tensors) // 2
        return cls(
            codebooks=tuple(tensors[f"codebook_{n}"] for n in range(num_levels)),
            encoder=tuple(
                Layer(tensors[f"encoder.{n}.weight"], tensors[f"encoder.{n}.bias"])
                for n in range(num_layers)
            ),
            normalize_residuals=bool(tensors.get("normalize_residuals", True)),
            text_weight=float(tensors.get("text_weight", 1.0)),
        )


def place(vectors: Vectors, placement: Placement) -> Codes:
    """(num_items, number of codebooks) int32: at each level the code nearest to what is left.

    Args:
        vectors: (num_items, dim) float32, made like those of the catalog.
        placement: a bundle's.

    Raises:
        ModelError: the semantic IDs have no codebooks, or the vectors another width.
    """
    if vectors.ndim != 2 or vectors.shape[1] != placement.dim:
        raise ModelError(
            f"vectors of shape {vectors.shape} cannot be placed: the catalog's have "
            f"{placement.dim} numbers each; use the encoder it was trained with"
        )
    codes = np.empty((len(vectors), len(placement.codebooks)), dtype=np.int32)
    for start in range(0, len(vectors), BATCH):
        residual = encode(torch.from_numpy(vectors[start : start + BATCH]), placement.encoder)
        for level, codebook in enumerate(placement.codebooks):
            nearest, residual = _step(residual, codebook.double(), placement.normalize_residuals)
            codes[start : start + BATCH, level] = nearest.numpy()
    return codes


def text_vectors(embedded: Vectors, placement: Placement) -> Vectors:
    """(num_items, dim) float32: the vectors of items of which only the text is known.

    The text block at its length, then zeros: what training made of items that no history had.

    Args:
        embedded: (num_items, <= dim) float32, of the text encoder that the bundle's recipe names.
        placement: a bundle's.

    Raises:
        ModelError: vectors have no text block, or a narrower one.
    """
    room = placement.dim - embedded.shape[1]
    if room < 0 or not placement.text_weight:
        raise ModelError(
            f"texts of {embedded.shape[1]} numbers have no place in the catalog's vectors of "
            f"{placement.dim}, text_weight {placement.text_weight:g}; use its own text encoder"
        )
    lengths = np.linalg.norm(embedded, axis=1, keepdims=True)
    units = np.divide(embedded, lengths, out=np.zeros_like(embedded), where=lengths > 0)
    return np.pad(np.float32(placement.text_weight) * units, ((0, 0), (0, room)))


def encode(vectors: Tensor, encoder: tuple[Layer, ...]) -> Tensor:
    """(num_items, width) float64: the latents; without an encoder the vectors themselves."""
    hidden = vectors.double()
    for n, layer in enumerate(encoder):
        hidden = torch.relu(hidden) if n else hidden
        hidden = hidden @ layer.weight.double().T + layer.bias.double()
    return hidden


def _step(residual: Tensor, codebook: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Each item's nearest code, and what the code leaves over."""
    if not normalize:
        nearest = (codebook.square().sum(dim=1) - 2 * residual @ codebook.T).argmin(dim=1)
        return nearest, residual - codebook[nearest]
    lengths = residual.norm(dim=1, keepdim=True)
    points = torch.where(lengths > ROUNDING, residual / lengths.clamp(min=ROUNDING), 0.0)
    nearness, nearest = (points @ codebook.T).max(dim=1, keepdim=True)
    return nearest[:, 0], points - nearness * codebook[nearest[:, 0]]
