"""When requests come: shapes of load over a run, and Poisson arrivals that follow them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Shape = Literal["steady", "step", "spike", "soak"]

STEPS = 4
SPIKE = 3.0
SPIKE_BEGINS, SPIKE_ENDS = 0.4, 0.6


def level(shape: Shape, at: float) -> float:
    """The load at a moment, as a multiple of what was asked for.

    Args:
        shape: steady and soak stay at 1, step climbs to it in quarters, spike goes to SPIKE in the
            middle.
        at: the moment, as a share of the run, in [0, 1].
    """
    match shape:
        case "step":
            return (min(int(at * STEPS), STEPS - 1) + 1) / STEPS
        case "spike":
            return SPIKE if SPIKE_BEGINS <= at < SPIKE_ENDS else 1.0
        case _:
            return 1.0


@dataclass(frozen=True)
class Schedule:
    """The load of one run over its time.

    Args:
        shape: of the measured part.
        warmup_s: before it, at the load it begins with; requests due then are not counted.
        duration_s: of the measured part.
    """

    shape: Shape
    warmup_s: float
    duration_s: float

    @property
    def total_s(self) -> float:
        """From the first request's earliest time to the end of the load."""
        return self.warmup_s + self.duration_s

    def level_at(self, time_s: float) -> float:
        """The multiple of the asked load at a time since the start."""
        at = (time_s - self.warmup_s) / self.duration_s
        return level(self.shape, min(max(at, 0.0), 1.0))

    def users_at(self, time_s: float, users: int) -> int:
        """Closed loop: how many users there are, when `users` were asked for; at least one."""
        return max(1, round(users * self.level_at(time_s)))

    def arrivals(self, rate: float, seed: int) -> list[float]:
        """Open loop: Poisson arrivals, in seconds since the start, ascending.

        Args:
            rate: requests/s at level 1, above 0.
            seed: the same one gives the same arrivals.
        """
        return list(self._thinned(rate, random.Random(seed)))

    def _thinned(self, rate: float, random_: random.Random) -> Iterator[float]:
        """Candidates at the highest rate, of which each stays with its moment's share of it."""
        highest = max(SPIKE if self.shape == "spike" else 1.0, 1.0)
        time_s = random_.expovariate(rate * highest)
        while time_s < self.total_s:
            if random_.random() * highest < self.level_at(time_s):
                yield time_s
            time_s += random_.expovariate(rate * highest)
