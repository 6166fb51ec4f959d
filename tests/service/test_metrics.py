"""What is counted, under which name, and where it can be read."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics
from tests.service.conftest import Running, Serve
from tests.service.fakes import FakeEngine

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def samples(text: str) -> dict[str, float]:
    """Every sample of an exposition, by its name and its labels' values."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(running: Running) -> dict[str, float]:
    """What Prometheus would read."""
    return samples((await running.client.get("/metrics")).text)


def named(metrics: Metrics) -> dict[str, tuple[str, str]]:
    """Each family's name as it is queried, its type and what it is."""
    endings = {"counter": "_total", "info": "_info"}
    return {
        family.name + endings.get(family.type, ""): (family.type, family.documentation)
        for family in metrics.registry.collect()
    }


async def test_requests_are_counted_by_route_method_and_status(running: Running) -> None:
    """By the template of the route, however many paths callers invent."""
    await running.recommend(history=["item-1"])
    await running.recommend()
    await running.client.get("/a")
    await running.client.get("/b")
    await running.client.get("/docs")
    await running.client.request("BREW", "/info")

    counted = await scraped(running)

    name = "stamp_http_requests_total"
    assert {key: n for key, n in counted.items() if key.startswith(name)} == {
        f"{name} POST /recommend 200": 1,
        f"{name} POST /recommend 422": 1,
        f"{name} GET none 404": 2,
        f"{name} GET /docs 200": 1,
        f"{name} other /info 405": 1,
    }
    assert counted["stamp_http_request_duration_seconds_count POST /recommend"] == 2
    assert counted["stamp_problems_total not_found"] == 2
    assert counted["stamp_problems_total invalid_request"] == 1


async def test_an_answer_is_counted_with_its_stages(running: Running, engine: FakeEngine) -> None:
    """Source, tokens before and after SAP, beams, and the batch it was in."""
    await running.recommend(history=["item-1", "item-2"], limit=5, beam_width=50)
    await running.recommend(user_id="nobody", limit=100)

    counted = await scraped(running)

    assert engine.batch_sizes == [1]
    assert counted["stamp_answers_total model"] == 1
    assert counted["stamp_answers_total popularity"] == 1
    assert counted["stamp_short_answers_total"] == 1
    assert counted["stamp_batch_rows_sum"] == 2
    assert counted["stamp_batch_duration_seconds_count"] == 2
    assert counted["stamp_history_tokens_sum before"] == 6
    assert counted["stamp_history_tokens_sum after"] == 2
    assert counted["stamp_beam_width_sum"] == 50
    stages = [counted[f"stamp_stage_duration_seconds_count {s}"] for s in ("queue", "history")]
    assert [*stages, counted["stamp_stage_duration_seconds_count model"]] == [2, 2, 2]


async def test_a_failing_store_is_counted(serve: Serve, tmp_path: Path) -> None:
    """The failure once a batch, the degraded answer by its kind."""
    async with serve(history_url=f"sqlite:///{tmp_path}/store") as running:
        with closing(sqlite3.connect(tmp_path / "store")) as connection:
            connection.execute("DROP TABLE histories")
        response = await running.recommend(user_id="ann")
        counted = await scraped(running)

    assert response.json()["degraded"] == ["history"]
    assert counted["stamp_history_store_errors_total"] == 1
    assert counted["stamp_degraded_answers_total history"] == 1


def test_a_request_that_the_store_fails_is_counted() -> None:
    """Where there is no answer without it."""
    metrics = Metrics()

    metrics.request_done("/users", "DELETE", 503, 0.1, "history_unavailable")

    counted = samples(metrics.exposition()[0].decode())
    assert counted["stamp_history_store_errors_total"] == 1
    assert counted["stamp_problems_total history_unavailable"] == 1


async def test_the_queue_is_looked_up_when_scraped(serve: Serve, engine: FakeEngine) -> None:
    """Rows, the age of the oldest, the running batch; who is refused is counted."""
    engine.gate.clear()
    async with serve(max_queue_rows=1) as running:
        first = asyncio.create_task(running.recommend(history=["item-1"]))
        await engine.until_busy()
        second = asyncio.create_task(running.recommend(history=["item-1"]))
        await running.until_waiting(1)
        await running.recommend(history=["item-1"])
        busy = await scraped(running)
        engine.gate.set()
        await asyncio.gather(first, second)
        idle = await scraped(running)

    assert busy["stamp_queue_rows"] == 1
    assert busy["stamp_queue_oldest_seconds"] > 0
    assert busy["stamp_batch_running_seconds"] > 0
    assert busy["stamp_http_requests_in_flight"] == 3
    assert busy["stamp_unanswered_rows_total overloaded"] == 1
    assert (idle["stamp_queue_rows"], idle["stamp_queue_oldest_seconds"]) == (0, 0)
    assert idle["stamp_http_requests_in_flight"] == 1


async def test_a_deadline_that_passes_is_counted(serve: Serve, engine: FakeEngine) -> None:
    """As a row that expired, beside the request's problem."""
    engine.gate.clear()
    async with serve() as running:
        response = await running.recommend(history=["item-1"], deadline_ms=1)
        counted = await scraped(running)
        engine.gate.set()

    assert response.status_code == 504
    assert counted["stamp_unanswered_rows_total deadline_exceeded"] == 1
    assert counted["stamp_problems_total deadline_exceeded"] == 1


async def test_a_bug_is_counted_as_a_problem(running: Running) -> None:
    """Also where no handler of ours was asked before the count."""
    running.app.state.settings = None

    response = await running.client.get("/info")
    counted = await scraped(running)

    assert response.status_code == 500
    assert counted["stamp_http_requests_total GET /info 500"] == 1
    assert counted["stamp_problems_total internal_error"] == 1


async def test_state_model_and_breaker_are_looked_up(running: Running) -> None:
    """One state is 1 and the others 0, the breaker's too."""
    before = await scraped(running)
    running.app.state.metrics.live.breaker = lambda: "open"
    running.app.state.lifecycle.drain()
    after = await scraped(running)

    assert before["stamp_model_info fake 1"] == 1
    assert (before["stamp_state ready"], before["stamp_state draining"]) == (1, 0)
    assert (after["stamp_state ready"], after["stamp_state draining"]) == (0, 1)
    assert before["stamp_history_breaker_state closed"] == 1
    assert after["stamp_history_breaker_state open"] == 1
    assert after["stamp_history_breaker_state closed"] == 0


async def test_the_prompt_cache_is_looked_up(running: Running) -> None:
    """Its counters and its size, as the engine has them."""
    counted = await scraped(running)

    assert counted["stamp_prompt_cache_hits_total"] == 0
    assert counted["stamp_prompt_cache_bytes"] == 0
    assert counted["process_resident_memory_bytes"] > 0


async def test_two_apps_count_apart(serve: Serve) -> None:
    """A registry belongs to one app."""
    async with serve() as one, serve() as other:
        await one.recommend(history=["item-1"])
        counted = await scraped(one), await scraped(other)

    assert [each.get("stamp_answers_total model", 0) for each in counted] == [1, 0]


async def test_openmetrics_is_spoken_to_who_asks(running: Running) -> None:
    """The text format is the default."""
    plain = await running.client.get("/metrics")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    asked = await running.client.get("/metrics", headers=accept)

    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert asked.headers["Content-Type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")


async def test_metrics_may_have_a_port_of_their_own(serve: Serve) -> None:
    """There nothing else is served but health, and elsewhere no metrics."""
    async with serve(metrics_port=9_090) as running:
        paths = ("/metrics", "/health/live", "/info")
        public = [(await running.client.get(path)).status_code for path in paths]
        own = [
            (await running.client.get(f"http://service:9090{path}")).status_code for path in paths
        ]

    assert public == [404, 200, 200]
    assert own == [200, 200, 404]


@pytest.mark.parametrize("name", named(Metrics()))
def test_a_metric_is_named_by_convention(name: str) -> None:
    """Our prefix or the process's, base units, and `_total` for counters alone."""
    kind = named(Metrics())[name][0]

    assert re.match(r"(stamp|process)_[a-z_]+$", name)
    assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)(_|$)", name)
    assert name.endswith("_total") == (kind == "counter")


@pytest.mark.parametrize("name", named(Metrics()))
def test_a_metric_is_documented(name: str) -> None:
    """docs/operations.md has a row for it, in its own words."""
    kind, text = named(Metrics())[name]
    row = rf"^\| `{name}` \| {kind} \| [^|]* \| {re.escape(text)} \|$"

    assert re.search(row, OPERATIONS.read_text(encoding="utf-8"), flags=re.MULTILINE)


async def test_probes_by_prometheus_are_not_logged(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line every ten seconds that says nothing hides the others."""
    async with serve() as running:
        await running.client.get("/metrics")

    assert "/metrics" not in capsys.readouterr().out
