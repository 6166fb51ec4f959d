"""Changes to the catalog of a running engine: items come, change, go, and are found accordingly.

A new item needs no training: its vector is placed by the bundle's own codebooks.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from model.errors import ModelError
from model.inventory import Inventory
from model.placement import Placement, Vectors, place


def put_items(
    inventory: Inventory, placement: Placement | None, items: pl.DataFrame, vectors: Vectors | None
) -> int:
    """Add items, or replace what is known of them and bring them back; how many are new.

    All or nothing: what is refused changes nothing.

    Args:
        inventory: what can be found.
        placement: the bundle's; None = there is none, and no item can be added.
        items: item_id, and any of title and the catalog's attributes; others become null.
        vectors: (items, dim) float32, one a row; None = no item is new.

    Raises:
        ModelError: an item_id twice or missing, columns or types that the catalog has not,
            popularity (it is counted in training), a new item without a vector, vectors of
            another number or width or that are not finite.
    """
    catalog = inventory.catalog
    if "item_id" not in items.columns or items["item_id"].null_count():
        raise ModelError("every item needs an item_id")
    whole = catalog.like_its_own(items)
    if whole["item_id"].n_unique() != whole.height:
        raise ModelError("an item_id is given twice")
    indices = [catalog.index_of(item_id) for item_id in whole["item_id"]]
    new = np.array([index is None for index in indices], dtype=bool)
    codes = None
    if new.any():
        if vectors is None or placement is None:
            first = whole["item_id"].filter(pl.Series(new))[0]
            raise ModelError(f"item {first!r} is new: it needs a vector to be placed by")
        if len(vectors) != len(new):
            raise ModelError(f"{len(vectors)} vectors for {len(new)} items: one for each, please")
        codes = _codes(inventory, placement, vectors[new])
    catalog.put(whole)
    inventory.forget()
    if codes is not None:
        inventory.add(codes)
    for index in indices:
        if index is not None:
            inventory.set_removed(index, removed=False)
    return int(new.sum())


def remove_items(inventory: Inventory, item_ids: Sequence[str]) -> list[str]:
    """Take items out: nobody finds them, histories may still hold them.

    Returns:
        the ids that the catalog does not have, which changes nothing else.
    """
    unknown = []
    for item_id in item_ids:
        index = inventory.catalog.index_of(item_id)
        if index is None:
            unknown.append(item_id)
        else:
            inventory.set_removed(index, removed=True)
    return unknown


def _codes(inventory: Inventory, placement: Placement, vectors: Vectors) -> npt.NDArray[np.int32]:
    """(items, num_levels): the nearest codes; on a suffix level, the first that is free."""
    if not np.isfinite(vectors).all():
        raise ModelError("a vector holds numbers that are not finite")
    codes = place(vectors, placement)
    if codes.shape[1] == inventory.sids.num_levels:
        return codes
    size = inventory.sids.codebook_sizes[-1]
    taken: dict[bytes, set[int]] = {}
    suffixes = []
    for prefix in codes:
        used = taken.setdefault(prefix.tobytes(), inventory.sids.leaves.last_codes(prefix))
        free = next((code for code in range(size) if code not in used), size - 1)
        used.add(free)
        suffixes.append(free)
    return np.concatenate((codes, np.array(suffixes, dtype=np.int32)[:, None]), axis=1)
