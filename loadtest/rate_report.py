"""What a search for the highest rate found, beside what the engine does without a network."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.errors import LoadTestError
from loadtest.files import write_whole
from loadtest.find_rate import Found, Probe
from loadtest.plots import probes_plot
from loadtest.processes import ROOT

OVERLOAD = 1.2  # times the rate found


def offline_throughput(
    bundle_dir: Path, data: Path, folder: Path, seconds: float = 5.0
) -> list[dict[str, Any]]:
    """Recommendations/s of the engine alone, by batch size, measured in a process of its own.

    Args:
        bundle_dir: the model's versions.
        data: parquet of histories.
        folder: gets offline.json.
        seconds: for each size, with and without a cache.
    """
    output = folder / "offline.json"
    command = [sys.executable, "-m", "benchmarks.throughput", str(bundle_dir.resolve())]
    command += ["--data", str(data.resolve()), "--json", str(output.resolve())]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        raise LoadTestError(f"benchmarks.throughput: {last}")
    cells: list[dict[str, Any]] = json.loads(output.read_text("utf-8"))["cells"]
    return cells


def write_rate(
    found: Found,
    p99_ms: float,
    offline: Sequence[dict[str, Any]],
    folder: Path,
) -> list[str]:
    """Write rate.json and probes.png, and return what to tell the person at the terminal.

    Args:
        found: by the search.
        p99_ms: that was to hold.
        offline: of `offline_throughput`; empty if not measured.
        folder: where to; it exists.
    """
    best = found.probes[-1]
    lowest = min(probe.rate for probe in found.probes)
    result = {
        "rate": found.rate,
        "p99_limit_ms": p99_ms,
        "confirmed_for_s": None if found.rate is None else best.duration_s,
        "recommendations_per_s": best.recommendations_per_s,
        "probes": [asdict(probe) for probe in found.probes],
        "offline": list(offline),
    }
    write_whole(folder / "rate.json", json.dumps(result, indent=1) + "\n")
    write_whole(folder / "probes.png", probes_plot(found.probes, p99_ms))
    if found.rate is None:
        return [f"no rate held p99 <= {p99_ms:g} ms; the lowest tried was {lowest:.1f} arrivals/s"]
    lines = [
        f"{found.rate:.1f} arrivals/s hold p99 <= {p99_ms:g} ms for {best.duration_s:g} s "
        f"(p99 {best.p99_ms:.1f} ms): {best.recommendations_per_s:.1f} recommendations/s, "
        f"{best.degraded_rate:.1%} of the answers degraded",
    ]
    lines += [_beside(best, cell) for cell in offline]
    lines.append(f"beyond it: the same service with --rate {OVERLOAD * found.rate:.0f} --overload")
    return lines


def _beside(best: Probe, cell: dict[str, Any]) -> str:
    """One line about what the engine does alone."""
    share = best.recommendations_per_s / cell["per_second"]
    return (
        f"engine alone, batches of {cell['rows']}, {cell['cache']}: "
        f"{cell['per_second']:.1f} recommendations/s; the service reaches {share:.0%}"
    )
