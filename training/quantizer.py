"""Item vectors to semantic IDs by residual k-means: each level codes what the one before left over.

With `normalize_residuals` the k-means is spherical: unit points, unit centroids, cosine. Plain
k-means on unit residuals lets one centroid near the origin attract most items (decision 0022).

Shape words: num_items, num_levels, dim, codebook_size (of one level).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import faiss
import numpy as np
import numpy.typing as npt

from training.data_config import QuantizerConfig
from training.embeddings import Vectors, unit_rows

Codes = npt.NDArray[np.int32]

ROUNDING = 1e-4  # a float32 residual of unit vectors shorter than this says nothing


@dataclass(frozen=True)
class Quantized:
    """Semantic IDs, and what it takes to give one to a new item.

    Args:
        codes: (num_items, num_levels) int32.
        codebook_sizes: one per level of `codes`.
        codebooks: (codebook_size, dim) float32 each; a suffix level has none.
        notes: what a reader should know, e.g. that a codebook was clamped.
    """

    codes: Codes
    codebook_sizes: tuple[int, ...]
    codebooks: list[Vectors]
    notes: tuple[str, ...] = ()


def quantize(
    vectors: Vectors,
    config: QuantizerConfig,
    *,
    popularity: npt.NDArray[np.int64] | None = None,
    num_threads: int = 1,
) -> Quantized:
    """Fit one codebook per level and code every item; the same on every run with 1 thread.

    Args:
        vectors: (num_items, dim) float32.
        config: sizes, seed, and what happens to items with equal codes.
        popularity: (num_items,) for collisions = "suffix": the popular item gets suffix 0.
        num_threads: for faiss; more are faster, but sums may round differently.
    """
    codebooks, levels, notes = [], [], []
    residual = vectors
    with _threads(num_threads):
        for level, wanted in enumerate(config.wanted_sizes):
            points = _scaled(residual, config.normalize_residuals)
            codebook = _fit(points, wanted, config, level)
            codes, residual = _step(points, codebook, config.normalize_residuals)
            codebooks.append(codebook)
            levels.append(codes)
            if len(codebook) < wanted:
                notes.append(
                    f"level {level}: {wanted} codes asked for, but only {len(codebook)} items "
                    "are left to tell apart: the codebook has as many"
                )
    sizes = tuple(len(codebook) for codebook in codebooks)
    found = Quantized(np.stack(levels, axis=1), sizes, codebooks, tuple(notes))
    return add_suffix(found, popularity) if config.collisions == "suffix" else found


def assign(vectors: Vectors, codebooks: Sequence[Vectors], *, normalize_residuals: bool) -> Codes:
    """(num_vectors, len(codebooks)) int32: the codes quantize would give; for new items.

    Args:
        vectors: (num_vectors, dim) float32, embedded as the fitted items were.
        codebooks: as in Quantized; a suffix level is the caller's business.
        normalize_residuals: as in the QuantizerConfig of the fit.
    """
    residual, levels = vectors, []
    for codebook in codebooks:
        points = _scaled(residual, normalize_residuals)
        codes, residual = _step(points, codebook, normalize_residuals)
        levels.append(codes)
    return np.stack(levels, axis=1)


def add_suffix(quantized: Quantized, popularity: npt.NDArray[np.int64] | None = None) -> Quantized:
    """One more level that numbers the items of each bucket from 0, the popular first.

    Its codebook is as large as the largest bucket; the other levels keep their sizes.
    """
    codes = quantized.codes
    num_items = len(codes)
    rank = np.zeros(num_items, dtype=np.int64) if popularity is None else -popularity
    _, bucket, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((np.arange(num_items), rank, bucket))
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    suffix = np.empty(num_items, dtype=np.int32)
    suffix[order] = np.arange(num_items) - first
    return replace(
        quantized,
        codes=np.concatenate((codes, suffix[:, None]), axis=1),
        codebook_sizes=(*quantized.codebook_sizes, int(sizes.max())),
    )


def _scaled(residual: Vectors, normalize: bool) -> Vectors:
    """Unit rows if asked for; a row that only rounding keeps from zero becomes zero."""
    if not normalize:
        return residual
    lengths = np.linalg.norm(residual, axis=1, keepdims=True)
    return unit_rows(np.where(lengths > ROUNDING, residual, np.float32(0)))


def _fit(points: Vectors, wanted: int, config: QuantizerConfig, level: int) -> Vectors:
    """(min(wanted, points that are not zero), dim); unit rows with normalize_residuals."""
    dim = points.shape[1]
    points = points[points.any(axis=1)]
    if len(points) == 0:
        return np.zeros((1, dim), dtype=np.float32)
    kmeans = faiss.Kmeans(
        dim,
        min(wanted, len(points)),
        niter=config.num_iterations,
        seed=config.seed + level,
        spherical=config.normalize_residuals,
        min_points_per_centroid=1,  # small catalogs are welcome: no warning
    )
    kmeans.train(np.ascontiguousarray(points))
    return np.asarray(kmeans.centroids, dtype=np.float32)


def _step(points: Vectors, codebook: Vectors, normalize: bool) -> tuple[Codes, Vectors]:
    """Each point's code, and what the code leaves over.

    With unit centroids that is the part at right angles to the centroid: items of one cluster that
    point more or less its way differ only in what the next level shall tell apart.
    """
    index = (faiss.IndexFlatIP if normalize else faiss.IndexFlatL2)(codebook.shape[1])
    index.add(codebook)
    nearness, nearest = index.search(np.ascontiguousarray(points), 1)
    chosen = codebook[nearest[:, 0]]
    left = points - nearness * chosen if normalize else points - chosen
    return nearest[:, 0].astype(np.int32), left


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
