"""The service's benchmark, on real processes and a tiny T5: what it checks, finds and records."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import polars as pl
import pytest

from benchmarks.http_connection import LoadError
from benchmarks.http_load import Call, Load, Plan
from benchmarks.service import measure
from benchmarks.service_measure import Effort, RankingError, check_rankings, checked, send
from benchmarks.service_population import demo_population, given_population, t5_population
from benchmarks.service_process import Process, Server, ServerError, on_core
from benchmarks.service_report import show, write_record
from benchmarks.service_result import LEAST, MOST, Result
from model.config import T5Config

TINY = T5Config(codebook_sizes=(9, 8, 7), d_model=16, num_heads=2, d_kv=8, d_ff=32)
TINY_EFFORT = Effort(
    single_requests=20,
    cost_requests=64,
    cost_rounds=1,
    rounds=1,
    seconds=0.5,
    versus_rounds=1,
    versus_seconds=0.2,
    checked=2,
    peer_rows=(4, 1),
    beams=(10, 20),
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Everything, measured as little as possible."""
    folder = tmp_path_factory.mktemp("benchmark")
    population = demo_population(folder, num_users=40)
    peers = t5_population(folder, 40, TINY, num_items=300)
    return measure(population, peers, TINY_EFFORT, folder, ["--quick"])


def test_one_json_object_has_what_readers_of_records_look_for(result: Result) -> None:
    """The headlines by their names, the verdicts, and what they come from."""
    found = json.loads(json.dumps(result.to_json()))

    assert found["overhead_ms_p50"].keys() == {"sqlite", "redis"}
    assert 0 < found["overhead_ms_p50"]["sqlite"] < found["overheads"]["sqlite"]["whole_p50_ms"]
    assert found["cpu_us_per_request"] == found["costs"]["sqlite"]["us_per_request"] > 0
    assert found["costs"].keys() == {"sqlite", "redis", "echo"}
    assert found["batch_efficiency"] > 0
    assert found["vs_baseline_server"] > 0
    assert found["rankings_equal"] is True
    assert found["reached"].keys() == MOST.keys() | LEAST.keys()
    assert found["skipped"] == {}


def test_batches_and_probes_are_seen_under_load(result: Result) -> None:
    """The service puts rows together, and its health is asked for meanwhile."""
    (batching,) = result.batching

    assert 1 < batching.rows <= 32
    assert 0 < batching.model_busy <= 1.05
    assert batching.cpu_s > 0
    assert result.health.probes > 1
    assert result.health.p50_ms <= result.health.most_ms


def test_the_baseline_is_met_at_several_beam_widths(result: Result) -> None:
    """The first peer at all of them, the others at the first."""
    assert [(each.peer, each.beams) for each in result.versus] == [
        ("up to 4 in a padded batch", 10),
        ("up to 4 in a padded batch", 20),
        ("one at a time", 10),
    ]


def test_a_target_that_is_missed_is_not_reached(result: Result) -> None:
    """Some are limits from above, some from below."""
    slow = {name: replace(each, p50_ms=1e3) for name, each in result.overheads.items()}
    fast = [replace(each, per_second=1e6) for each in result.batching]

    judged = replace(result, overheads=slow, batching=fast).reached()

    assert judged["overhead_ms_p50.sqlite"] is False
    assert judged["batch_efficiency"] is True


def test_a_record_says_how_it_was_measured(
    result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page for people and an object for machines, named after day and hardware."""
    show(replace(result, own_cores=False, skipped={"redis": "pip install it"}))
    write_record(result, tmp_path)

    page, data = sorted(tmp_path.iterdir(), reverse=True)
    assert page.name.endswith("-service.md")
    assert "| cpu_us_per_request | <= 400 |" in page.read_text("utf-8")
    assert json.loads(data.read_text("utf-8"))["benchmark"] == "service"
    shown = capsys.readouterr().out
    assert "redis skipped: pip install it" in shown
    assert "shared one core" in shown


def test_histories_of_a_run_are_cut_to_the_newest(tmp_path: Path) -> None:
    """A trained bundle is measured with its own users."""
    items = [f"i{n}" for n in range(100)]
    pl.DataFrame({"user_id": ["ann"], "item_ids": [items]}).write_parquet(tmp_path / "h.parquet")

    population = given_population(tmp_path, tmp_path / "h.parquet")

    assert population.histories == {"ann": items[60:]}


@contextmanager
def answering(*item_ids: str) -> Iterator[str]:
    """The address of a server that recommends these to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"items": [{"item_id": item_id} for item_id in item_ids]}).encode()
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
            """Not on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_servers_that_rank_differently_are_not_timed() -> None:
    """The same items in another order are another ranking."""
    with answering("a", "b") as one, answering("b", "a") as other:
        check_rankings(one, one, [{"limit": 2}])
        with pytest.raises(RankingError, match="rank differently"):
            check_rankings(one, other, [{"limit": 2}])


def test_wrong_responses_end_a_measurement() -> None:
    """A throughput of failures is none."""
    with answering("a") as url, pytest.raises(LoadError, match="2 wrong responses"):
        send(Plan(url, [Call("/recommend", {}, items=2)], count=2))

    assert checked(Load()) == Load()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """With the end of what it wrote."""
    command = ["service", "serve", "--bundle-dir", str(tmp_path / "none")]

    with (
        Server(command, tmp_path / "log") as server,
        pytest.raises(ServerError, match="BUNDLE_DIR"),
    ):
        server.until_ready()


def test_a_process_is_kept_on_a_core_measured_and_ended(tmp_path: Path) -> None:
    """Its threads, its processor time, its memory."""
    with Process(["sleep", "60"], tmp_path / "log") as process:
        process.stay_on_core(1)

        with on_core(1):
            assert os.sched_getaffinity(process.pid) == os.sched_getaffinity(0)
        assert 0 <= process.cpu_s() < 5
        assert 0 < process.rss_mb() < 100
        assert process.is_running()
    assert not process.is_running()
    with pytest.raises(ServerError, match="is gone"):
        process.rss_mb()
