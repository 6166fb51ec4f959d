"""Item vectors: what the text says, and optionally what the training histories say.

Shape words: num_items, dim. Each block is scaled to a common length per item and the blocks stand
side by side, so their weights decide how much each counts in a distance.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds
from threadpoolctl import threadpool_limits

from model.errors import ModelError
from training.data_config import EmbeddingConfig
from training.dataset import Histories, ItemIndices
from training.encoders import encode_folder, encode_minilm

Vectors = npt.NDArray[np.float32]


def embed_items(items: pl.DataFrame, train: Histories, config: EmbeddingConfig) -> Vectors:
    """(num_items, dim) float32: the blocks a recipe asks for.

    Args:
        items: the catalog, with a column `text`.
        train: training histories only; validation and test items must not be in them.
        config: which blocks, and their weights.
    """
    blocks = []
    if config.text != "none":
        blocks.append(config.text_weight * unit_rows(_text_block(items, config)))
    if config.collaborative_weight:
        together = embed_cooccurrence(train, items.height, config)
        blocks.append(config.collaborative_weight * together)
    return np.concatenate(blocks, axis=1, dtype=np.float32)


def _text_block(items: pl.DataFrame, config: EmbeddingConfig) -> Vectors:
    if config.vectors is not None:
        return load_vectors(config.vectors, items.height)
    texts = items["text"].to_list()
    if config.encoder is not None:
        return encode_folder(texts, config.encoder)
    return encode_minilm(texts) if config.text == "minilm" else embed_text(texts)


def embed_text(texts: Sequence[str]) -> Vectors:
    """(num_texts, 256) float32: the mean of WordLlama's static token vectors; no network."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    import wordllama  # noqa: PLC0415  (only this function needs its 19 MB)

    root.handlers[:], root.level = handlers, level  # its import calls logging.basicConfig
    # Its own default looks in another folder and then tries to download what it has.
    bundled = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=bundled, disable_download=True)
    vectors: Vectors = np.asarray(model.embed(list(texts), norm=False), dtype=np.float32)
    return vectors


def load_vectors(path: Path, num_items: int) -> Vectors:
    """(num_items, dim) float32 from a .npy whose rows follow the catalog."""
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"{path}: not a readable .npy file ({error})") from error
    if vectors.ndim != 2 or len(vectors) != num_items:
        raise ModelError(
            f"{path}: shape {vectors.shape}, but the catalog has {num_items} items; "
            "give one row per row of items.parquet"
        )
    if vectors.dtype.kind not in "fiu":
        raise ModelError(f"{path}: holds {vectors.dtype} values; give numbers")
    checked: Vectors = vectors.astype(np.float32)
    if not np.isfinite(checked).all():
        row = int(np.flatnonzero(~np.isfinite(checked).all(axis=1))[0])
        raise ModelError(f"{path}: row {row} holds a value that is not finite")
    return checked


def embed_cooccurrence(train: Histories, num_items: int, config: EmbeddingConfig) -> Vectors:
    """(num_items, <= collaborative_dim) float32 of unit length; zeros for items never trained on.

    Rows of U sqrt(S) of a truncated SVD of the positive pointwise mutual information of items that
    stand near each other (Levy and Goldberg, NeurIPS 2014); a column's largest entry is positive.
    """
    weights = positive_pmi(cooccurrence(train, num_items, config.window))
    rank = min(config.collaborative_dim, num_items - 1)
    if weights.nnz == 0 or rank < 1:
        return np.zeros((num_items, max(rank, 1)), dtype=np.float32)
    start = np.random.default_rng(config.seed).random(num_items)
    with threadpool_limits(limits=1, user_api="blas"):  # 8 times faster: the steps are small
        left, strength, _ = svds(weights, k=rank, v0=start)
    factors = np.asarray(left * np.sqrt(strength), dtype=np.float32)[:, ::-1]  # strongest first
    peaks = np.take_along_axis(factors, np.abs(factors).argmax(axis=0)[None], axis=0)
    seen = np.asarray(weights.sum(axis=1))[:, None] > 0
    return unit_rows(np.where(seen, factors * np.where(peaks < 0, -1, 1), 0).astype(np.float32))


def cooccurrence(train: Histories, num_items: int, window: int) -> csr_array:
    """(num_items, num_items) symmetric counts of pairs at most `window` apart in a history.

    An item is never paired with itself.
    """
    users, items = train.user_of, train.items
    pairs: list[tuple[ItemIndices, ItemIndices]] = []
    for distance in range(1, window + 1):
        together = (users[:-distance] == users[distance:]) & (items[:-distance] != items[distance:])
        pairs.append((items[:-distance][together], items[distance:][together]))
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    shape = (num_items, num_items)
    counts = csr_array((np.ones(len(left)), (left, right)), shape=shape)
    return csr_array(counts + counts.T)


def positive_pmi(counts: csr_array) -> csr_array:
    """log(p(i, j) / (p(i) p(j))) where it is positive, of symmetric counts."""
    table = counts.tocoo()
    totals = np.asarray(counts.sum(axis=1))
    total = totals.sum()
    information = np.log(table.data * total / (totals[table.row] * totals[table.col]))
    weights = csr_array((np.maximum(information, 0), (table.row, table.col)), shape=counts.shape)
    weights.eliminate_zeros()
    return weights


def unit_rows(vectors: Vectors) -> Vectors:
    """Each row at length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return scaled
