"""Hypothesis strategies: catalogs of semantic IDs with any depth, ragged levels and sharing."""

import numpy as np
from hypothesis import strategies as st

from model.semantic_id import SidTable


@st.composite
def sid_tables(
    draw: st.DrawFn, max_levels: int = 8, max_items: int = 24, max_size: int = 5
) -> SidTable:
    """1 to max_levels levels of different sizes; items may share a semantic ID."""
    sizes = tuple(draw(st.lists(st.integers(1, max_size), min_size=1, max_size=max_levels)))
    sid = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    codes = draw(st.lists(sid, min_size=1, max_size=max_items))
    popularity = draw(st.lists(st.integers(0, 3), min_size=len(codes), max_size=len(codes)))
    return SidTable(np.array(codes, dtype=np.int32), sizes, np.array(popularity, dtype=np.int64))
