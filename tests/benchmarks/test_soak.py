"""The soak: a short one for real, and the line through its samples."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak import Sample, slope

ROOT = Path(__file__).parents[2]


def test_a_short_soak_checks_every_response(tmp_path: Path) -> None:
    """All kinds of requests are answered as expected; the record says how memory went."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.soak", "--requests", "600"),
            *("--json", "--record", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)

    assert found["wrong"] == 0, found["remarks"]
    assert found["requests"] == sum(found["statuses"].values()) == 600
    assert found["statuses"].keys() == {"200", "404", "422"}
    assert len(found["samples"]) == 51
    assert done.returncode == (0 if found["flat"] else 1)
    assert "MB in 100,000 requests" in next(tmp_path.glob("*soak.md")).read_text("utf-8")


def test_the_slope_is_that_of_the_line() -> None:
    """2 MB each 100,000, with an error that is what the noise allows."""
    straight = [Sample(at * 10_000, 100 + 0.2 * at) for at in range(10)]
    noisy = [Sample(s.requests, s.rss_mb + (-1) ** n) for n, s in enumerate(straight)]

    assert slope(straight) == pytest.approx((2.0, 0.0), abs=1e-9)
    found, error = slope(noisy)
    assert error > 1
    assert abs(found - 2) < 2 * error
