"""The highest rate of arrivals that a service answers in time, by bisection."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.slo import Latency, Limits, Slo

BACK = 0.93  # of a rate that held briefly and not for long
MOST_CONFIRMATIONS = 5


@dataclass(frozen=True)
class Probe:
    """One rate that was tried.

    Args:
        rate: arrivals/s, open loop.
        duration_s: for how long.
        held: whether all was answered in time.
        p99_ms: of answered recommendations.
        recommendations_per_s: answered.
        error_rate: share of requests.
        degraded_rate: share of answers that had to do without something.
    """

    rate: float
    duration_s: float
    held: bool
    p99_ms: float | None
    recommendations_per_s: float
    error_rate: float
    degraded_rate: float


Try = Callable[[float, float], Probe]
"""Tries a rate for a duration in seconds."""


@dataclass(frozen=True)
class Found:
    """What was tried, in order; the last one is what was found."""

    probes: list[Probe]

    @property
    def rate(self) -> float | None:
        """The highest rate that held when it was confirmed; None if none did."""
        last = self.probes[-1]
        return last.rate if last.held else None


def objective(rate: float, p99_ms: float) -> Slo:
    """What it means to hold a rate: in time, without errors, and without a growing queue.

    Args:
        rate: arrivals/s.
        p99_ms: most, from due to done. The backlog may be twice what is in flight by that.
    """
    backlog = math.ceil(2 * rate * p99_ms / 1000) + 1
    return Slo(latency_ms=Latency(p99=p99_ms), limits=Limits(error_rate=0.001, backlog=backlog))


def find_rate(
    attempt: Try, upper: float, *, probe_s: float, confirm_s: float, precision: float
) -> Found:
    """Bisect with short probes, then confirm by a long one, each time a little lower.

    Args:
        attempt: tries a rate.
        upper: arrivals/s that are surely too many; above 0.
        probe_s: of a short probe.
        confirm_s: of the last one.
        precision: stop when the rate is known to this share of it, above 0.
    """
    probes: list[Probe] = []
    low, high = 0.0, upper
    while high - low > precision * high and high > upper / 100:
        probes.append(attempt((low + high) / 2, probe_s))
        if probes[-1].held:
            low = probes[-1].rate
        else:
            high = probes[-1].rate
    if low > 0:
        for step in range(MOST_CONFIRMATIONS):
            probes.append(attempt(low * BACK**step, confirm_s))
            if probes[-1].held:
                break
    return Found(probes)
