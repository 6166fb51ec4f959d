"""The benchmark of Ray Serve: what it measures, its verdicts, and a whole run."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from benchmarks import ray_serve
from benchmarks.http_load import Call
from benchmarks.ray_serve import (
    PLAIN,
    RAY,
    Cell,
    Effort,
    Target,
    measure,
    plain_service,
    remarks,
    tables,
    to_json,
)
from benchmarks.service_process import Server
from tests.service.conftest import write_bundle
from training.environment import environment

CALL = Call("/recommend", {"history": ["i1", "i2"], "limit": 5}, items=5)
TINY = Effort(callers=(1, 3), rounds=1, seconds=0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a version, and a file of histories."""
    folder = tmp_path_factory.mktemp("ray")
    write_bundle(folder / "bundles", "v1")
    frame = pl.DataFrame({"user_id": ["a", "b"], "item_ids": [["i1", "i2"], ["i3"]]})
    frame.write_parquet(folder / "histories.parquet")
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Server]:
    """A service on that version."""
    settings = {"bundle_dir": str(folder / "bundles"), "history_url": "memory://"}
    with plain_service(folder / "service.log", settings) as service:
        yield service.until_ready()


def cell(server: str, callers: int, rate: float, p50_ms: float) -> Cell:
    """A cell of recommendations."""
    return Cell("/recommend", callers, server, rate, p50_ms, 2 * p50_ms, p50_ms, 0)


def test_every_server_is_called_on_every_path(service: Server) -> None:
    """Processor time is of the server's process, not of the callers."""
    target = Target(service.url, service.cpu_s)

    cells = measure({PLAIN: target, RAY: target}, [CALL], TINY)

    called = [(each.path, each.callers, each.server) for each in cells]
    assert called == [
        (path, callers, server)
        for path in ("/health/live", "/recommend")
        for callers in TINY.callers
        for server in (PLAIN, RAY)
    ]
    assert all(each.requests_per_s > 0 and each.failed == 0 for each in cells)
    assert all(0 <= each.cpu_ms < 1000 for each in cells)


@pytest.mark.parametrize(
    ("ray", "reached"),
    [((95.0, 10.4), True), ((80.0, 10.4), False), ((95.0, 12.0), False)],
)
def test_both_aims_count(ray: tuple[float, float], reached: bool) -> None:
    """Requests per second with many callers, and what a lone request takes longer."""
    cells = [cell(PLAIN, 1, 90.0, 10.0), cell(RAY, 1, 80.0, ray[1])]
    cells += [cell(PLAIN, 16, 100.0, 160.0), cell(RAY, 16, ray[0], 170.0)]

    result = to_json(cells, environment("benchmarks.ray_serve", []), "2.60.0", quick=True)

    assert result["throughput_ratio"] == ray[0] / 100
    assert result["p50_overhead_ms"] == pytest.approx(ray[1] - 10)
    assert result["reached"] == reached
    assert ("NOT reached" in remarks(result)) != reached
    assert len(tables(cells)[0][2]) == len(cells)


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")
def test_ray_and_the_plain_service_are_compared(folder: Path) -> None:
    """A whole run, on a cluster of one node."""
    cells = ray_serve.compare(folder / "bundles", folder / "histories.parquet", TINY)

    assert {each.server for each in cells} == {PLAIN, RAY}
    assert all(each.failed == 0 for each in cells)
