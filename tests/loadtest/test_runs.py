"""Whole runs: a real client in its process, against real services and ones that fail."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
import pytest
from typer.testing import CliRunner, Result

from loadtest.__main__ import app
from loadtest.errors import LoadTestError
from loadtest.rate_report import offline_throughput
from loadtest.traffic import NAMES
from tests.factories import random_bundle
from tests.loadtest import servers
from tests.service.conftest import write_bundle
from tests.service.history.servers import VALKEY, running
from tests.service.process import Process

SHORT = ("--duration", "2", "--warmup", "0")
RECOMMENDS_ONLY = ("--mix", "known=1")
Load = Callable[..., Result]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Run `python -m loadtest VERB` with these arguments; the report goes to report/."""

    def load(verb: str, *arguments: str) -> Result:
        report = str(tmp_path / "report")
        quick = ("--report", report, "--client-check", "0.5")
        return CliRunner().invoke(app, [verb, *arguments, *quick])

    return load


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """A folder with an untrained bundle."""
    write_bundle(tmp_path / "bundles", "v1")
    return tmp_path / "bundles"


@pytest.fixture
def histories(tmp_path: Path) -> Path:
    """Thirty users of that bundle, as `import-histories` reads them."""
    ids = random_bundle().catalog.item_ids
    users = {
        f"user-{user}": [ids[(user + step) % len(ids)] for step in range(user % 9 + 1)]
        for user in range(30)
    }
    path = tmp_path / "histories.parquet"
    pl.DataFrame({"user_id": list(users), "item_ids": list(users.values())}).write_parquet(path)
    return path


@pytest.fixture
def service(bundles: Path) -> Iterator[str]:
    """The address of a service that is running already."""
    process = Process(
        *("-m", "service", "--bundle-dir", str(bundles), "--history-url", "memory://"),
        *("--port", "0"),
    )
    process.until_ready()
    yield process.url
    process.stop()


def report_of(tmp_path: Path) -> dict[str, Any]:
    """The document of the last run."""
    found: dict[str, Any] = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    return found


def rows_of(tmp_path: Path) -> pl.DataFrame:
    """The requests of the last run."""
    return pl.read_parquet(tmp_path / "report" / "requests.parquet")


def test_a_service_of_our_own_is_started_filled_loaded_and_ended(
    load: Load, bundles: Path, histories: Path, tmp_path: Path
) -> None:
    """Every kind of request is sent and answered well, writes are read; nothing is left behind."""
    before = set(psutil.Process().children())
    slo = tmp_path / "slo.toml"
    slo.write_text("[latency_ms]\np99 = 5000\n[limits]\nbacklog = 100\n", "utf-8")

    result = load(
        "run",
        *("--bundle-dir", str(bundles), "--data", str(histories), "--slo", str(slo)),
        *("--rate", "60", "--shape", "spike", *SHORT),
    )

    assert result.exit_code == 0, result.output
    document = report_of(tmp_path)
    assert document["held"] is True
    assert document["summary"]["by_name"].keys() == set(NAMES.values())
    assert document["summary"]["recommendations"]["rejected"] == 0
    assert document["client"]["headroom"] > 1
    assert document["plan"]["num_visitors"] == 30
    assert rows_of(tmp_path)["fault"].is_null().all()
    assert set(psutil.Process().children()) <= before


def test_a_running_service_is_loaded_by_users_made_up_for_it(
    load: Load, service: str, tmp_path: Path
) -> None:
    """They are known to the service while it lasts, and forgotten afterwards."""
    result = load("run", "--url", service, "--users", "3", "--shape", "step", *SHORT)

    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path)
    assert (rows["status"] == 200).all()
    assert rows.filter(pl.col("name") == NAMES["after"]).height > 0
    history = httpx.get(f"{service}/users/loadtest-0-0/history").json()
    assert history["num_items"] == 0
    assert report_of(tmp_path)["service"] is None


def test_a_service_that_forgets_events_is_found_out(load: Load, tmp_path: Path) -> None:
    """What was just taken is recommended again: the run fails and says why."""
    with servers.serving(servers.recommending("a", "b")) as url:
        result = load("run", "--url", url, "--rate", "60", *SHORT)

    assert result.exit_code == 1, result.output
    assert "read-your-writes" in result.output
    assert report_of(tmp_path)["held"] is False


def test_refusals_are_fine_when_the_load_was_meant_to_be_too_much(
    load: Load, tmp_path: Path
) -> None:
    """With --overload; 429 is counted apart, and all that was asked is accounted for."""
    with servers.serving(servers.refusing_half()) as url:
        result = load("run", "--url", url, "--rate", "100", *RECOMMENDS_ONLY, *SHORT, "--overload")

    assert result.exit_code == 0, result.output
    found = report_of(tmp_path)["summary"]["recommendations"]
    assert 0 < found["rejected"] < found["requests"]
    assert found["answered"] + found["rejected"] == found["requests"]
    assert 150 < found["requests"] < 250


def test_overload_does_not_excuse_a_500(load: Load) -> None:
    """Refusing is fine, failing is not."""
    with servers.serving(servers.failing()) as url:
        result = load("run", "--url", url, "--rate", "20", *RECOMMENDS_ONLY, *SHORT, "--overload")

    assert result.exit_code == 1
    assert "broken: statuses of 500 and more" in result.output
    assert "status 500" in result.output


def test_an_open_loop_sees_what_a_closed_one_does_not(load: Load, tmp_path: Path) -> None:
    """A stall of a second delays all who came meanwhile: no client may wait it out with it."""
    p95_ms = {}
    for loop in (("--rate", "50"), ("--users", "1")):
        with servers.serving(servers.stalling(after=30, for_s=1.0)) as url:
            load("run", "--url", url, *loop, *RECOMMENDS_ONLY, *SHORT)
        p95_ms[loop[0]] = report_of(tmp_path)["summary"]["recommendations"]["p95_ms"]

    assert p95_ms["--rate"] > 500
    assert p95_ms["--users"] < 500


def test_the_highest_rate_is_searched_on_a_shared_store(
    load: Load, bundles: Path, tmp_path: Path
) -> None:
    """Probes come closer, the last one confirms; histories may be in Redis or its like."""
    with running(VALKEY) as valkey:
        result = load(
            "find-rate",
            *("--bundle-dir", str(bundles), "--history-url", valkey.url, "--p99-ms", "2000"),
            *("--probe", "1", "--confirm", "2", "--warmup", "0", "--precision", "0.4"),
        )

    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "report" / "rate.json").read_text("utf-8"))
    assert found["probes"][-1]["held"] is True
    assert found["probes"][-1]["rate"] == found["rate"] > 0
    assert "arrivals/s hold p99 <= 2000 ms for 2 s" in result.output


def test_the_engine_alone_is_measured_beside_a_service(
    bundles: Path, histories: Path, tmp_path: Path
) -> None:
    """By the program that does so, in its process; what it refuses is told in its words."""
    cells = offline_throughput(bundles, histories, tmp_path, seconds=0)

    assert {cell["rows"] for cell in cells} == {1, 8, 32}
    assert all(cell["per_second"] > 0 for cell in cells)
    with pytest.raises(LoadTestError, match="not a parquet file"):
        offline_throughput(bundles, tmp_path / "none", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "5"), "one of --url and --bundle-dir"),
        (("--url", "http://127.0.0.1:1"), "one of --rate"),
        (("--url", "http://127.0.0.1:1", "--rate", "5", "--users", "5"), "one of --rate"),
        (("--url", "http://127.0.0.1:1", "--rate", "5", "--mix", "known"), "KIND=WEIGHT"),
        (("--url", "http://127.0.0.1:1", "--rate", "5", "--mix", "unknown=1"), "no kind"),
        (("--url", "http://127.0.0.1:1", "--rate", "5", "--slo", "none.toml"), "none.toml"),
        (("--url", "http://127.0.0.1:1", "--rate", "5", "--key-file", "none"), "key file"),
        (("--url", "ftp://somewhere", "--rate", "5"), "not an address"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    load: Load, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, before anything is started."""
    result = load("run", *arguments)

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_service_that_does_not_start_is_told(load: Load, tmp_path: Path) -> None:
    """Its own words are in the log that is named."""
    (tmp_path / "empty").mkdir()

    result = load("run", "--bundle-dir", str(tmp_path / "empty"), "--rate", "5")

    assert result.exit_code == 2
    assert "service.log" in result.stderr
    assert "error:" in (tmp_path / "report" / "service.log").read_text("utf-8")


def test_histories_that_cannot_be_imported_are_told(
    load: Load, bundles: Path, tmp_path: Path
) -> None:
    """In the importer's words."""
    (tmp_path / "broken.parquet").write_text("no parquet", "utf-8")

    result = load(
        "run",
        *("--bundle-dir", str(bundles), "--rate", "5"),
        *("--data", str(tmp_path / "broken.parquet")),
    )

    assert result.exit_code == 2
    assert "not a readable parquet file" in result.stderr
