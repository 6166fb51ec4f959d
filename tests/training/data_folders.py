"""Small data folders for the tests, written the way people write them."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from training.dataset import Histories

ITEMS: tuple[Mapping[str, object], ...] = (
    {
        "item_id": "007",
        "title": "Red  nail polish",
        "brand": "OPI",
        "categories": ["Beauty", "Nails"],
    },
    {"item_id": "8", "title": "Blue shampoo", "brand": None, "categories": []},
    {"item_id": "9", "title": None, "brand": None, "categories": []},
)
EVENTS = "user_id\titem_id\ttimestamp\nu2\t007\t100\nu1\t8\t300\nu2\t9\t50\nu1\t007\t200\n"


def write_folder(
    folder: Path,
    events: str | bytes = EVENTS,
    items: Sequence[Mapping[str, object]] = ITEMS,
    events_name: str = "interactions.tsv",
) -> Path:
    """Write interactions and items.jsonl; names that end in .gz are compressed."""
    folder.mkdir(parents=True, exist_ok=True)
    content = events.encode() if isinstance(events, str) else events
    compressed = gzip.compress(content) if events_name.endswith(".gz") else content
    (folder / events_name).write_bytes(compressed)
    lines = "".join(json.dumps(item) + "\n" for item in items)
    (folder / "items.jsonl").write_text(lines, encoding="utf-8")
    return folder


def histories_of(*rows: Sequence[int], timestamps: Sequence[int] | None = None) -> Histories:
    """Histories of users called 0, 1, ... from rows of item indices."""
    lengths = [len(row) for row in rows]
    return Histories(
        user_ids=[str(number) for number in range(len(rows))],
        items=np.array([item for row in rows for item in row], dtype=np.int32),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        timestamps=None if timestamps is None else np.array(timestamps, dtype=np.int64),
    )
