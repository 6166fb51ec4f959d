"""Inventory: what it remembers is bounded."""

import gc
import weakref

import numpy as np
import torch

from model.boosts import Biases, FewBiases
from model.inventory import ITEMS_PER_USE, MAX_CACHED, MAX_COUNTED, Inventory
from model.queries import Boost
from tests.factories import TINY, random_bundle, random_table


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


def test_a_long_list_that_comes_often_is_made_for_the_whole_catalog() -> None:
    """From the third time on, here; short ones and others never."""
    bundle = random_bundle(TINY, random_table(num_items=400))
    inventory = Inventory(bundle.sids, bundle.catalog, torch.device("cpu"))
    inventory.min_uses = 3
    allow, deny = tuple(range(200)), tuple(range(100, 300))

    made = [inventory.listed("popularity >= 50", allow, deny) for _ in range(4)]

    popular = bundle.sids.popularity >= 50
    assert [shelf is None for shelf in made] == [True, True, False, False]
    assert made[-1] is made[-2]
    assert made[-1] is not None
    assert np.flatnonzero(made[-1].items).tolist() == [n for n in range(100) if popular[n]]
    for _ in range(4):
        assert inventory.listed(None, (1, 2, 3), ()) is None
    assert inventory.listed("popularity >= 50", allow, ()) is None


def test_how_often_lists_came_is_known_of_the_latest() -> None:
    """As many as may be counted; of an older one the counting begins anew."""
    bundle = random_bundle(TINY, random_table(num_items=400))
    inventory = Inventory(bundle.sids, bundle.catalog, torch.device("cpu"))
    inventory.min_listed, inventory.min_uses = 1, 2

    for number in range(MAX_COUNTED + 1):
        assert inventory.listed(None, (number % 400, number // 400), ()) is None

    assert inventory.listed(None, (0, 0), ()) is None
    assert inventory.listed(None, (2, 0), ()) is not None


def test_boosts_of_a_long_list_are_made_for_the_whole_catalog_when_they_come_often() -> None:
    """They come to the same."""
    bundle = random_bundle(TINY, random_table(num_items=400))
    inventory = Inventory(bundle.sids, bundle.catalog, torch.device("cpu"))
    inventory.min_uses = 2
    boosts = [Boost(0.5, items=tuple(range(0, 400, 2))), Boost(1.0, items=(3, 4))]
    items = np.arange(400)

    made = [inventory.biases(boosts, None) for _ in range(2)]

    assert isinstance(made[0], FewBiases)
    assert isinstance(made[-1], Biases)
    assert made[0].added_to(items).tolist() == made[-1].added_to(items).tolist()


def test_in_large_catalogs_a_list_must_come_more_often() -> None:
    """Making it costs what the catalog is long; using it as a list, what the list is long."""
    small, large = random_bundle(TINY), random_table(num_items=2 * ITEMS_PER_USE)

    assert Inventory(small.sids, small.catalog, torch.device("cpu")).min_uses == 1
    assert Inventory(large, small.catalog, torch.device("cpu")).min_uses == 3
