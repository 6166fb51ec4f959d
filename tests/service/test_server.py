"""The service as a process: it comes up, says where it is, drains, and leaves with a code."""

import json
import re
import shlex
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from model.engine import Engine
from service.app import create_app
from service.errors import StartupError
from service.lifecycle import Lifecycle
from service.server import Server, listen, run
from service.settings import Settings
from tests.service.conftest import Start, settings_for, write_bundle
from tests.service.fakes import PATIENCE_S, FakeEngine, fake_bundle
from tests.service.process import START_S, Process


def start_fake(start: Start, **variables: str) -> Process:
    """A service around a fake engine that holds its first batch."""
    process = start("-m", "tests.service.fake_server", **variables)
    process.until_ready()
    process.steer("hold")
    return process


def test_it_serves_a_bundle_and_says_how_to_try_it(start: Start, tmp_path: Path) -> None:
    """The printed command works; a 10 MB body is a readable 413; SIGTERM ends with 0."""
    write_bundle(tmp_path / "tiny", "v1")
    arguments = ["--bundle-dir", str(tmp_path / "tiny"), "--port", "0", "--example-user", "196"]
    url = f"sqlite:///{tmp_path}/store"
    process = start("-m", "service", *arguments, STAMP_HISTORY_URL=url)
    line = process.until_ready()

    command = shlex.split(line["example"])
    sent = dict(zip(command[3::2], command[4::2], strict=True))
    name, _, value = sent["-H"].partition(": ")
    answer = httpx.post(command[2], content=sent["-d"], headers={name: value})
    refused = httpx.post(command[2], content=b" " * 10_000_000)
    process.process.send_signal(signal.SIGTERM)

    assert json.loads(sent["-d"]) == {"user_id": "196", "limit": 5}
    assert (answer.status_code, len(answer.json()["items"])) == (200, 5)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert process.exit_code() == 0
    assert line["example"] in process.stop()


def test_metrics_are_served_on_their_own_port(start: Start) -> None:
    """Beside a service that needs a key, which the printed command says."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {"STAMP_METRICS_PORT": str(port), "STAMP_API_KEYS": "some-key-0123456789"}
    process = start("-m", "tests.service.fake_server", **variables)
    line = process.until_ready()

    paths = [f"http://127.0.0.1:{port}/metrics", f"{line['url']}/metrics", f"{line['url']}/info"]
    statuses = [httpx.get(path).status_code for path in paths]

    assert statuses == [200, 404, 401]
    assert '-H "X-API-Key: $KEY"' in line["example"]
    assert "some-key" not in str(line)


def test_requests_in_flight_are_answered_before_the_end(start: Start) -> None:
    """SIGTERM, then the answer, then exit code 0."""
    process = start_fake(start)
    in_flight = process.recommend()
    process.until("batch_begun")
    process.process.send_signal(signal.SIGTERM)
    process.until("draining")
    process.steer("go")

    assert in_flight.result(PATIENCE_S).status_code == 200
    assert process.exit_code() == 0


def test_readiness_fails_before_the_port_closes(start: Start) -> None:
    """Within the delay new requests are still taken; a second signal ends it, stuck or not."""
    process = start_fake(start, STAMP_DRAIN_DELAY_S="60")
    in_flight = process.recommend()
    process.until("batch_begun")
    process.process.send_signal(signal.SIGTERM)
    process.until("draining")
    probe = process.ready()
    process.steer("go")
    late = process.recommend().result(PATIENCE_S)
    process.steer("hold")
    process.recommend()
    process.until("batch_begun")
    process.process.send_signal(signal.SIGTERM)

    assert (probe.status_code, probe.json()["reason"]) == (503, "draining")
    assert [in_flight.result(PATIENCE_S).status_code, late.status_code] == [200, 200]
    assert process.exit_code() == 1


def test_a_drain_that_takes_too_long_refuses_the_rest(start: Start) -> None:
    """The model hangs: who waits gets a problem, not a cut connection, and the process ends."""
    process = start_fake(start, STAMP_DRAIN_TIMEOUT_S="1")
    in_flight = process.recommend()
    process.until("batch_begun")
    process.process.send_signal(signal.SIGTERM)
    response = in_flight.result(PATIENCE_S)

    assert (response.status_code, response.json()["reason"]) == (503, "draining")
    assert process.exit_code() == 0


def test_a_damaged_bundle_ends_it_with_one_line(start: Start, tmp_path: Path) -> None:
    """What the manifest does not show is found while loading: exit code 2."""
    write_bundle(tmp_path, "v1")
    with (tmp_path / "v1" / "model.safetensors").open("ab") as file:
        file.write(b"x")

    process = start(
        "-m", "service", "--bundle-dir", str(tmp_path), "--port", "0", "--history-url", "memory://"
    )

    assert process.process.wait(START_S) == 2
    (line,) = process.stop().splitlines()
    assert line.startswith("error: ")
    assert "model.safetensors" in line


def test_a_client_who_leaves_is_noticed(start: Start) -> None:
    """A closed connection is a 499 in the log while the model is still at it."""
    process = start_fake(start)
    url = httpx.URL(process.url)
    body = b'{"history":["item-1"]}'
    head = "POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        process.until("batch_begun")
    line = process.until("request")

    assert (line["status"], line["code"]) == (499, "client_closed_request")


def run_until_ready(folder: Path, example_user: str | None, **changes: Any) -> int:
    """Serve in this process, and send it SIGTERM as soon as it is ready."""

    def build_app(settings: Settings, on_ready: Callable[[Engine], None]) -> FastAPI:
        def ready_then_stop(engine: Engine) -> None:
            on_ready(engine)
            signal.raise_signal(signal.SIGTERM)

        return create_app(settings, FakeEngine().load, ready_then_stop)

    return run(settings_for(fake_bundle(folder), port=0, **changes), example_user, build_app)


@pytest.mark.parametrize(
    ("example_user", "body", "page"),
    [
        (None, '{"history":["item-0","item-1","item-2"],"limit":5}', "\n"),
        ("it's", """{"user_id":"it'"'"'s","limit":5}""", r"\?user=it%27s\n"),
    ],
)
def test_the_welcome_is_for_people(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    example_user: str | None,
    body: str,
    page: str,
) -> None:
    """Address and command on stderr, unbroken, quoted for a shell; no signal is passed on."""
    code = run_until_ready(tmp_path, example_user, host="0.0.0.0")  # noqa: S104

    stderr = capsys.readouterr().err
    assert code == 0
    assert "serves fake/1 at http://127.0.0.1:" in stderr
    assert re.search(r"in a browser: http://127.0.0.1:\d+/" + page, stderr)
    assert f"-H 'Content-Type: application/json' -d '{body}'\n" in stderr


def test_ipv6_addresses_stand_in_brackets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a URL needs them."""
    run_until_ready(tmp_path, None, host="::1")

    assert "at http://[::1]:" in capsys.readouterr().err


def test_an_engine_that_fails_ends_the_server(tmp_path: Path) -> None:
    """In one line, however many the error had."""

    def load(*_: object) -> Engine:
        raise RuntimeError("no such device\nby the way")

    with pytest.raises(StartupError, match="no such device by the way"):
        run(
            settings_for(fake_bundle(tmp_path), port=0),
            None,
            partial(create_app, engine_loader=load),
        )


async def test_the_first_signal_drains_and_the_second_forces() -> None:
    """Not ready at once; listening until the delay is over; no third way."""
    lifecycle = Lifecycle()
    server = Server(uvicorn.Config(FastAPI()), lifecycle, drain_delay_s=60)

    server.handle_exit(signal.SIGTERM, None)
    after_first = (lifecycle.state, await server.on_tick(1), server.force_exit)
    server.handle_exit(signal.SIGINT, None)
    after_second = (lifecycle.state, await server.on_tick(2), server.force_exit)

    assert after_first == ("draining", False, False)
    assert after_second == ("draining", True, True)


def test_a_port_in_use_is_known_before_anything_else() -> None:
    """One line with address and reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(StartupError, match=rf"127\.0\.0\.1:{port}: Address already in use$"):
            listen("127.0.0.1", port)


def test_a_host_nobody_knows_is_refused() -> None:
    """One line with address and reason."""
    with pytest.raises(StartupError, match=r"cannot listen on 192\.0\.2\.1:0"):
        listen("192.0.2.1", 0)
