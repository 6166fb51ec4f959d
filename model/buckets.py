"""Buckets: the few sizes that histories are padded to, and batches where torch.compile is used."""

from bisect import bisect_left
from dataclasses import dataclass

from model.queries import Shape


@dataclass(frozen=True)
class Graphs:
    """For what shapes passes are compiled by torch.compile, if for any.

    Args:
        batch_sizes: ascending rows; a batch is padded to the next of these, if that is at most
            twice as large.
        beam_width: of searches; others run as they would without.
    """

    batch_sizes: tuple[int, ...]
    beam_width: int


@dataclass(frozen=True)
class Buckets:
    """The sizes of one engine.

    Args:
        lengths: of padded histories, in items, ascending.
        batch_sizes: of padded batches, ascending; () = batches are not padded.
        beam_width: of the shapes whose batches are padded.
        ratio: their retention ratio.
    """

    lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...] = ()
    beam_width: int = 0
    ratio: float = 0.0

    @classmethod
    def many(cls, max_items: int) -> "Buckets":
        """Lengths are powers of two and the steps between; batches have any size."""
        sizes = {size for power in range(12) for size in (2**power, 3 * 2**power // 2)}
        return cls((*sorted(size for size in sizes if 0 < size < max_items), max_items))

    @classmethod
    def few(cls, max_items: int, graphs: Graphs, ratio: float) -> "Buckets":
        """Lengths are the whole, a half and a quarter, as each is compiled for each batch size."""
        lengths = {max_items, max_items // 2, max_items // 4} - {0}
        return cls(tuple(sorted(lengths)), graphs.batch_sizes, graphs.beam_width, ratio)

    def length(self, num_items: int) -> int:
        """Items that a history of so many is padded to, or cut to if it is longer than all."""
        return self.lengths[bisect_left(self.lengths[:-1], num_items)]

    def rows(self, rows: int, shape: Shape) -> int:
        """Rows that a batch of so many is padded to; as many where nothing is compiled for it."""
        if (shape.beam_width, shape.retention_ratio) != (self.beam_width, self.ratio):
            return rows
        return padded(rows, self.batch_sizes)

    def shapes(self) -> list[Shape]:
        """What is compiled, for each batch size."""
        return [Shape(length, self.beam_width, self.ratio) for length in self.lengths]


def padded(rows: int, sizes: tuple[int, ...]) -> int:
    """The least of the ascending sizes that holds the rows and is at most twice as large."""
    place = bisect_left(sizes, rows)
    return sizes[place] if place < len(sizes) and sizes[place] <= 2 * rows else rows
