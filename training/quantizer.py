"""Item vectors to semantic IDs by residual k-means: each level codes what the one before left over.

With `normalize_residuals` the k-means is spherical: unit points, unit centroids, cosine. Plain
k-means on unit residuals lets one centroid near the origin attract most items (decision 0022).

Shape words: num_items, num_levels, dim, codebook_size (of one level).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import faiss
import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from model.placement import ROUNDING, Codes, Layer
from training.balance import balanced_codes
from training.data_config import QuantizerConfig
from training.embeddings import Vectors, unit_rows


@dataclass(frozen=True)
class Quantized:
    """Semantic IDs, and what it takes to give one to a new item.

    Args:
        codes: (num_items, num_levels) int32.
        codebook_sizes: one per level of `codes`.
        codebooks: (codebook_size, width) float32 each; a suffix level has none. The width is dim,
            or what an encoder makes of it.
        notes: what a reader should know, e.g. that a codebook was clamped.
        encoder: of an RQ-VAE.
    """

    codes: Codes
    codebook_sizes: tuple[int, ...]
    codebooks: list[Vectors]
    notes: tuple[str, ...] = ()
    encoder: tuple[Layer, ...] = ()


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
        num_threads: more are faster, but sums may round differently.
    """
    codebooks, levels = [], []
    residual = vectors
    with threads(num_threads):
        for level, wanted in enumerate(config.wanted_sizes):
            points = _scaled(residual, config.by_cosine)
            codebook = fit_codebook(points, wanted, config, level)
            codes, residual = code_level(points, codebook, config)
            codebooks.append(codebook)
            levels.append(codes)
    return finish(levels, codebooks, config, popularity)


def finish(
    levels: Sequence[Codes],
    codebooks: list[Vectors],
    config: QuantizerConfig,
    popularity: npt.NDArray[np.int64] | None = None,
    encoder: tuple[Layer, ...] = (),
) -> Quantized:
    """The codes of all levels side by side, a note where a codebook was clamped, and suffixes."""
    sizes = tuple(len(codebook) for codebook in codebooks)
    notes = tuple(
        f"level {level}: {wanted} codes asked for, but only {size} items "
        "are left to tell apart: the codebook has as many"
        for level, (size, wanted) in enumerate(zip(sizes, config.wanted_sizes, strict=True))
        if size < wanted
    )
    found = Quantized(np.stack(levels, axis=1), sizes, codebooks, notes, encoder)
    return add_suffix(found, popularity) if config.collisions == "suffix" else found


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


def fit_codebook(points: Vectors, wanted: int, config: QuantizerConfig, level: int) -> Vectors:
    """(min(wanted, points that are not zero), dim); unit rows where the config normalizes."""
    dim = points.shape[1]
    points = points[points.any(axis=1)]
    if len(points) == 0:
        return np.zeros((1, dim), dtype=np.float32)
    kmeans = faiss.Kmeans(
        dim,
        min(wanted, len(points)),
        niter=config.num_iterations,
        seed=config.seed + level,
        spherical=config.by_cosine,
        min_points_per_centroid=1,  # small catalogs are welcome: no warning
    )
    kmeans.train(np.ascontiguousarray(points))
    return np.asarray(kmeans.centroids, dtype=np.float32)


def code_level(
    points: Vectors, codebook: Vectors, config: QuantizerConfig
) -> tuple[Codes, Vectors]:
    """Each point's code, and what the code leaves over.

    With unit centroids that is the part at right angles to the centroid: items of one cluster that
    point more or less its way differ only in what the next level shall tell apart.
    """
    by_cosine = config.by_cosine
    if config.max_code_load is None:
        index = (faiss.IndexFlatIP if by_cosine else faiss.IndexFlatL2)(codebook.shape[1])
        index.add(codebook)
        nearness, nearest = index.search(np.ascontiguousarray(points), 1)
        codes = nearest[:, 0].astype(np.int32)
    else:
        codes = _balanced(points, codebook, config.max_code_load, by_cosine=by_cosine)
        nearness = (points * codebook[codes]).sum(axis=1, keepdims=True)
    chosen = codebook[codes]
    return codes, points - nearness * chosen if by_cosine else points - chosen


def _balanced(points: Vectors, codebook: Vectors, load: float, *, by_cosine: bool) -> Codes:
    """(num_points,): the least squared distances in total of codes that hold no more than `load`.

    A distance lacks the square of the point: it is the same for all codes.
    """
    costs = -2 * (points @ codebook.T)
    if not by_cosine:
        costs += np.square(codebook).sum(axis=1)
    capacity = math.ceil(load * len(points) / len(codebook))
    return balanced_codes(costs, capacity).astype(np.int32)


def _scaled(residual: Vectors, normalize: bool) -> Vectors:
    """Unit rows if asked for; a row that only rounding keeps from zero becomes zero."""
    if not normalize:
        return residual
    lengths = np.linalg.norm(residual, axis=1, keepdims=True)
    return unit_rows(np.where(lengths > ROUNDING, residual, np.float32(0)))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """As many threads for faiss, torch and numpy as asked for, and afterwards as many as before."""
    for_faiss, for_torch = faiss.omp_get_max_threads(), torch.get_num_threads()
    try:
        faiss.omp_set_num_threads(number)
        torch.set_num_threads(number)
        with threadpool_limits(limits=number, user_api="blas"):
            yield
    finally:
        faiss.omp_set_num_threads(for_faiss)
        torch.set_num_threads(for_torch)
