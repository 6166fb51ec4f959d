"""The search for the highest rate, on services that are a line of code."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.find_rate import Probe, find_rate, objective
from loadtest.rate_report import write_rate

PRECISION = 0.05


def service_that(holds: Callable[[float, float], bool]) -> Callable[[float, float], Probe]:
    """A service that holds rates as `holds(rate, duration_s)` says."""

    def attempt(rate: float, duration_s: float) -> Probe:
        return Probe(rate, duration_s, holds(rate, duration_s), 50.0, 0.9 * rate, 0.0, 0.25)

    return attempt


@pytest.mark.parametrize("limit", [7.0, 130.0, 219.0])
def test_the_rate_found_is_close_below_what_the_service_holds(limit: float) -> None:
    """Within the precision, by few short probes and a long one that confirms."""
    attempt = service_that(lambda rate, _: rate <= limit)

    found = find_rate(attempt, 220, probe_s=10, confirm_s=60, precision=PRECISION)

    assert found.rate is not None
    assert limit * (1 - 2 * PRECISION) <= found.rate <= limit
    assert [probe.duration_s for probe in found.probes[:-1]] == [10] * (len(found.probes) - 1)
    assert found.probes[-1].duration_s == 60
    assert len(found.probes) <= 12


def test_a_rate_that_does_not_last_is_lowered_until_one_does() -> None:
    """What holds for seconds need not hold for a minute."""
    attempt = service_that(lambda rate, duration_s: rate <= (100 if duration_s == 10 else 88))

    found = find_rate(attempt, 200, probe_s=10, confirm_s=60, precision=PRECISION)

    assert found.rate is not None
    assert 80 < found.rate <= 88
    assert found.probes[-1].held


@pytest.mark.parametrize(
    "holds",
    [lambda *_: False, lambda rate, duration_s: duration_s == 10 and rate < 50],
    ids=["nothing", "only for seconds"],
)
def test_a_service_that_holds_nothing_has_no_rate(
    holds: Callable[[float, float], bool], tmp_path: Path
) -> None:
    """Short probes alone find nothing; what was tried is written all the same."""
    found = find_rate(service_that(holds), 100, probe_s=10, confirm_s=60, precision=PRECISION)

    lines = write_rate(found, 100, [], tmp_path)

    assert found.rate is None
    assert lines[0].startswith("no rate held p99 <= 100 ms")
    written = json.loads((tmp_path / "rate.json").read_text("utf-8"))
    assert (written["rate"], len(written["probes"])) == (None, len(found.probes))


def test_a_rate_is_held_without_a_growing_queue() -> None:
    """At 100 a second within 100 ms some ten are in flight; twice that may wait at the end."""
    slo = objective(100, 100)

    assert (slo.latency_ms.p99, slo.limits.backlog) == (100, 21)


def test_what_was_found_is_told_beside_the_engine_alone(tmp_path: Path) -> None:
    """As a share of what the engine does, per batch size."""
    found = find_rate(
        service_that(lambda rate, _: rate <= 100),
        180,
        probe_s=10,
        confirm_s=60,
        precision=PRECISION,
    )
    assert found.rate is not None
    offline = [{"rows": 8, "cache": "no cache", "per_second": 2 * 0.9 * found.rate}]

    lines = write_rate(found, 100, offline, tmp_path)

    written = json.loads((tmp_path / "rate.json").read_text("utf-8"))
    assert written["rate"] == found.rate
    assert len(written["probes"]) == len(found.probes)
    assert "25.0% of the answers degraded" in lines[0]
    assert "the service reaches 50%" in lines[-2]
    assert f"--rate {1.2 * found.rate:.0f} --overload" in lines[-1]
    assert (tmp_path / "probes.png").read_bytes().startswith(b"\x89PNG")
