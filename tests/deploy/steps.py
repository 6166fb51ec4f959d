"""The steps of a check that takes minutes: each announced, timed and kept for a table."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.reporting import Rows

HEAD = ["step", "s", "what was seen"]


class Steps:
    """What was done so far; `rows` is a table under HEAD."""

    def __init__(self) -> None:
        self.rows: Rows = []

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Time a step; what it appends is shown behind it."""
        remarks: list[str] = []
        sys.stderr.write(f"[containers] {what}\n")
        start_s = time.monotonic()
        yield remarks
        self.rows.append([what, f"{time.monotonic() - start_s:.1f}", "; ".join(remarks)])
