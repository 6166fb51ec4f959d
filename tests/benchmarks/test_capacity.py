"""The capacity benchmark, on a tiny model: what it measures, plans, prints and records."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.capacity import latest_catalog, measure
from benchmarks.capacity_measure import Effort
from benchmarks.capacity_plan import Demand, Reserve, UnitCosts, plan
from benchmarks.capacity_report import show, tables, write_record
from benchmarks.capacity_result import CatalogCosts, Result
from tests.factories import tiny_config
from training.environment import environment

CONFIG = tiny_config(codebook_sizes=(16, 16, 16), max_history_items=100)
TINY = Effort(
    histories=(10, 40),
    beams=(20, 40),
    sizes=(600, 1_500),
    rows=(1, 4),
    budget_s=0,
    callers=(1, 4),
    http_histories=(10, 40),
    http_s=0.5,
    stored=(20, 50, 200),
    users=2_000,
)
COSTS = UnitCosts(
    service_cpu_ms=6.0,
    store_cpu_ms=0.1,
    user_bytes=300.0,
    event_bytes=40.0,
    registry_bytes=50.0,
    index_bytes=54.0,
    catalog_bytes=160.0,
    process_bytes=5e8,
)
DEMAND = Demand(users=8_640_000, items=1_000_000, active=0.1, requests=10, events=5, peak=3)


@pytest.fixture(scope="module")
def result() -> Result:
    """As little as possible, with a real Valkey and a real service."""
    found_in = environment("benchmarks.capacity", ["--quick"])
    catalog = CatalogCosts.read(latest_catalog())
    return measure(CONFIG, TINY, catalog, found_in, quick=True)


def test_the_headline_stands_at_the_top(result: Result) -> None:
    """One JSON object, in which everything is some number."""
    found = json.loads(json.dumps(result.to_json()))

    names = list(found)[:5]
    assert names[:3] == ["requests_per_s_per_core", "bytes_per_user", "replicas_100m_users"]
    assert all(found[name] > 0 for name in names)
    assert len(found["needs"]) == 6


def test_one_thing_is_changed_at_a_time(result: Result) -> None:
    """Longer histories, wider beams, larger catalogs, each in batches and alone."""
    measured = {(cell.history, cell.beams, cell.items, cell.rows) for cell in result.engine}

    points = {(10, 20, 600), (40, 20, 600), (10, 40, 600), (10, 20, 1_500)}
    assert measured == {(*point, rows) for point in points for rows in TINY.rows}
    assert min(cell.ms for cell in result.engine) > 0


def test_a_batch_costs_less_than_lone_requests(result: Result) -> None:
    """A core answers more when requests come together."""
    ms = {(cell.history, cell.beams, cell.items, cell.rows): cell.ms for cell in result.engine}

    assert ms[10, 20, 600, 4] < ms[10, 20, 600, 1]


def test_the_service_and_its_store_are_measured(result: Result) -> None:
    """Of every length and number of callers, by processor time."""
    cells = [(cell.history, cell.callers) for cell in result.http]

    assert cells == [(10, 1), (10, 4), (40, 1), (40, 4)]
    for cell in result.http:
        assert cell.service_cpu_ms > cell.store_cpu_ms > 0
        assert 0 < cell.p50_ms <= cell.p99_ms
    assert result.process_bytes > 1e8


def test_a_users_bytes_are_its_history_and_a_key(result: Result) -> None:
    """Four bytes an item and one more, and less than 150 around them; the registry is apart."""
    for cell in result.store:
        payload = 4 * cell.history + 1
        assert payload < cell.user_bytes < payload + 150
        assert 20 < cell.event_bytes < 200
        assert 20 < cell.registry_bytes < 150


def test_the_plan_is_arithmetic() -> None:
    """8,640,000 users of whom a tenth ask ten times: 100 a second, 300 at the peak."""
    need = plan(DEMAND, COSTS, Reserve(utilisation=0.6, spare_replicas=1, cores_a_machine=2))

    assert need.peak_per_s == pytest.approx(300)
    assert need.replicas == 3 + 1  # 300 x 6 ms = 1.8 cores, at 60 %
    assert need.machines == 2
    assert need.store_cores == pytest.approx(0.05)
    stored = 8_640_000 * 300 + 1_000_000 * 50 + 864_000 * 5 * 40
    assert need.store_gb == pytest.approx(stored * 2 / 0.7 / 1e9)
    assert need.index_gb == pytest.approx(0.054)
    assert need.process_gb == pytest.approx(0.66)
    assert need.machine_gb == pytest.approx(0.054 + 2 * 0.66)


@pytest.mark.parametrize("field", ["users", "active", "requests", "peak"])
def test_more_of_anything_needs_more_replicas(field: str) -> None:
    """Twice the rate, more cores."""
    more = replace(DEMAND, **{field: 2 * getattr(DEMAND, field)})

    assert plan(more, COSTS).replicas > plan(DEMAND, COSTS).replicas


def test_a_larger_catalog_costs_as_the_record_says() -> None:
    """The requests grow by the measured factor, the memory by the items."""
    grown = plan(DEMAND, replace(COSTS, growth=2.0))

    assert grown.replicas == 6 + 1
    assert plan(replace(DEMAND, items=2_000_000), COSTS).index_gb == pytest.approx(0.108)


def test_a_record_is_three_files(result: Result, tmp_path: Path) -> None:
    """Numbers for programs, tables for people, and a picture that the tables' page shows."""
    write_record(result, tmp_path)

    files = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(files) == {".json", ".md", ".png"}
    text = files[".md"].read_text("utf-8")
    assert files[".png"].name in text
    assert result.environment["commit"] in text


def test_the_terminal_shows_every_table(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    """And what the plan assumes."""
    show(result)

    printed = capsys.readouterr().out
    assert all(title in printed for title, _, _ in tables(result))
    assert "20% of the users come on a day" in " ".join(printed.split())
