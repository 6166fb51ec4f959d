"""Semantic IDs that others have published: a table of codes, read instead of fitted.

The table has a column item_id and one column per level, c1, c2, ...; codes count from 0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from model.errors import ModelError
from model.placement import Codes
from training.data_config import QuantizerConfig
from training.embeddings import Vectors, unit_rows
from training.quantizer import Quantized, add_suffix
from training.tables import collect, refuse_rows, scan_table, schema_of

MAX_CODE = 65_535
MAX_NAMED = 5  # items that a message lists
BATCH = 1024


def read_published(path: Path) -> tuple[list[str], Codes]:
    """Item ids and their codes, (num_rows, num_levels) int32, in the order of the file.

    Raises:
        ModelError: no such file, no code column, a code that is no whole number, an item twice.
    """
    table = scan_table(path)
    schema = schema_of(path, table, ("item_id", "c1"))
    levels = [f"c{level}" for level in range(1, len(schema) + 1)]
    levels = levels[: next((n for n, name in enumerate(levels) if name not in schema), None)]
    numbers = [pl.col(name).cast(pl.Int64, strict=False) for name in levels]
    frame = collect(
        path,
        table.with_row_index("row").select("row", pl.col("item_id").cast(pl.String), *numbers),
    )
    advice = "correct the row"
    refuse_rows(path, frame, pl.col("item_id").fill_null("") == "", "item_id is empty", advice)
    for name in levels:
        odd = ~pl.col(name).is_between(0, MAX_CODE).fill_null(value=False)
        refuse_rows(path, frame, odd, f"{name} is no whole number from 0 to {MAX_CODE}", advice)
    again = ~pl.col("item_id").is_first_distinct()
    named = frame.with_columns(value="item_id")
    refuse_rows(path, named, again, "item_id {value!r} stands there again", "keep one of the rows")
    return frame["item_id"].to_list(), frame.select(levels).to_numpy().astype(np.int32)


def published_sids(
    config: QuantizerConfig,
    item_ids: Sequence[str],
    vectors: Vectors | None,
    popularity: npt.NDArray[np.int64] | None = None,
) -> Quantized:
    """The catalog's semantic IDs out of a published table; without codebooks.

    Args:
        config: kind = "published".
        item_ids: the catalog; the table's other items are left out.
        vectors: (num_items, dim), to place items that the table lacks; None = it may lack none.
        popularity: (num_items,) for collisions = "suffix": the popular item gets suffix 0.
    """
    assert config.file is not None  # QuantizerConfig has made sure
    published, table = read_published(config.file)
    row_of = {item_id: row for row, item_id in enumerate(published)}
    rows = np.array([row_of.get(item_id, -1) for item_id in item_ids], dtype=np.int64)
    missing = np.flatnonzero(rows < 0)
    notes = []
    if missing.size:
        named = _missing_items(config.file, item_ids, missing)
        if vectors is None or missing.size == len(rows):
            raise ModelError(
                f'{named}; add them, set unpublished_items = "nearest" in [quantizer] to give each '
                "that of the nearest item with one, or check that the ids are those of the data"
            )
        rows[missing] = rows[_nearest(vectors, missing)]
        notes.append(f"{named}: each has that of the nearest item with one")
    unused = len(published) - len(item_ids) + missing.size
    if unused:
        notes.append(f"{config.file.name}: {unused:,} items are not in the catalog and left out")
    codes = table[rows]
    found = Quantized(codes, _sizes(config, codes), [], tuple(notes))
    return add_suffix(found, popularity) if config.collisions == "suffix" else found


def _sizes(config: QuantizerConfig, codes: Codes) -> tuple[int, ...]:
    """The codebook sizes of the recipe, or as few codes as the items need."""
    needed = tuple((codes.max(axis=0) + 1).tolist())
    sizes = config.codebook_sizes
    if sizes is None:
        return needed
    if len(sizes) != len(needed) or any(s < n for s, n in zip(sizes, needed, strict=True)):
        assert config.file is not None
        raise ModelError(
            f"{config.file.name}: needs codebook_sizes of at least {list(needed)}, but [quantizer] "
            f"says {list(sizes)}; leave codebook_sizes out to take what the table needs"
        )
    return sizes


def _missing_items(path: Path, item_ids: Sequence[str], missing: npt.NDArray[np.int64]) -> str:
    named = ", ".join(repr(item_ids[index]) for index in missing[:MAX_NAMED])
    more = ", ..." if len(missing) > MAX_NAMED else ""
    return (
        f"{path.name}: {len(missing):,} of {len(item_ids):,} catalog items have no semantic ID "
        f"({named}{more})"
    )


def _nearest(vectors: Vectors, missing: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(num_missing,): the item index, not itself missing, with the largest cosine."""
    units = unit_rows(vectors)
    known = np.setdiff1d(np.arange(len(units)), missing)
    batches = [
        (units[missing[start : start + BATCH]] @ units[known].T).argmax(axis=1)
        for start in range(0, len(missing), BATCH)
    ]
    nearest: npt.NDArray[np.int64] = known[np.concatenate(batches)]
    return nearest
