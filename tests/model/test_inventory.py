"""Inventory: what it remembers is bounded."""

import gc
import weakref

import torch

from model.inventory import MAX_CACHED, Inventory
from tests.factories import TINY, random_bundle


def test_of_ever_new_filters_the_newest_are_remembered() -> None:
    """The same shelf for what was asked lately; the oldest one's memory is free."""
    bundle = random_bundle(TINY)
    inventory = Inventory(bundle.sids, bundle.catalog, torch.device("cpu"))

    shelves = [
        weakref.ref(inventory.shelf(f"popularity > {number}")) for number in range(MAX_CACHED + 5)
    ]
    gc.collect()

    assert [shelf() is None for shelf in shelves] == [True] * 5 + [False] * MAX_CACHED
    assert inventory.shelf(f"popularity > {MAX_CACHED}") is shelves[MAX_CACHED]()
    assert inventory.shelf("popularity > 0") is not None
