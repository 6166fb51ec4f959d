"""What nobody gets to read, what browsers may do, and what the document says about it."""

import json
import logging
from importlib.util import find_spec
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse
from structlog.testing import capture_logs
from typer.testing import CliRunner

from service.__main__ import app as command_line
from service.errors import StartupError
from service.settings import load_settings
from service.telemetry import telemetry
from tests.service.callers import KEYS, recommend
from tests.service.conftest import Running, Serve, settings_for
from tests.service.fakes import FakeEngine

OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"


async def test_nothing_that_is_logged_holds_a_key(
    serve: Serve, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even what libraries say at level debug, nor when a batch fails."""
    caplog.set_level(logging.DEBUG)
    engine.failure = RuntimeError("a bug")

    with capture_logs() as lines:
        async with serve(api_keys=KEYS[0], rate_limit="2/hour") as running:
            for _ in range(3):
                await recommend(running, Authorization=f"Bearer {KEYS[0]}")

    codes = [line["code"] for line in lines if line["event"] == "request"]
    assert codes == ["internal_error", "internal_error", "rate_limited"]
    assert KEYS[0] not in str(lines) + caplog.text


def test_config_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the password of a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STAMP_API_KEYS", KEYS[0])
    url = "redis://:hidden@db:6379"

    arguments = ["config", "--bundle-dir", str(tmp_path), "--rate-limit-url", url]
    result = CliRunner().invoke(command_line, arguments)

    assert "STAMP_API_KEYS=****" in result.stdout
    assert "STAMP_RATE_LIMIT_URL=redis://:***@db:6379" in result.stdout
    assert KEYS[0] not in result.output
    assert "hidden" not in result.output


def test_a_wrong_setting_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong, its line holds no secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STAMP_API_KEYS", KEYS[0])
    monkeypatch.setenv("STAMP_RATE_LIMIT", "often")

    with pytest.raises(StartupError) as error:
        load_settings(bundle_dir=str(tmp_path))

    assert str(error.value).startswith("STAMP_RATE_LIMIT=often: ")
    assert KEYS[0] not in str(error.value)


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("/info", "default-src 'none'; frame-ancestors 'none'"),
        ("/nowhere", "default-src 'none'; frame-ancestors 'none'"),
        ("/docs", "default-src 'self'; style-src 'self' 'unsafe-inline';"),
    ],
)
async def test_every_response_has_safe_headers(running: Running, path: str, policy: str) -> None:
    """Nothing is sniffed, framed or referred; pages load what they need alone."""
    headers = (await running.client.get(path)).headers

    assert policy in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in headers


async def test_a_page_of_ours_may_load_what_is_ours(running: Running) -> None:
    """Neither inline scripts nor others' servers."""

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse("<p>page</p>")

    running.app.add_route("/page", page)

    policy = (await running.client.get("/page")).headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'self'")
    assert "unsafe" not in policy


def test_the_document_says_how_to_bring_a_key() -> None:
    """Both schemes, on every operation but probes, with the failures they bring."""
    document = json.loads(OPENAPI.read_text(encoding="utf-8"))
    operations = {
        path: operation
        for path, methods in document["paths"].items()
        for operation in methods.values()
    }
    limited = operations["/recommend"]["responses"]["429"]["description"]
    shut = {path for path, operation in operations.items() if "security" in operation}

    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    assert {path for path in operations if path not in shut} == {
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    assert all({"401", "429"} <= operations[path]["responses"].keys() for path in shut)
    assert "`rate_limited`" in limited
    assert "`overloaded`" in limited


def test_telemetry_is_off_by_default(tmp_path: Path) -> None:
    """Neither spans nor metrics, whatever FASTAPI_OTEL_AUTO_CONFIGURE says."""
    config = telemetry(settings_for(tmp_path))

    assert not any(config[name] for name in ("tracing", "metrics", "logs", "auto_configure"))


def test_telemetry_leaves_probes_out(tmp_path: Path) -> None:
    """A trace of each would hide the others."""
    left_out = telemetry(settings_for(tmp_path))["exclude"]

    assert left_out is not None
    paths = ("/health/ready", "/metrics", "/recommend")
    assert [left_out({"path": path}) for path in paths] == [True, True, False]


@pytest.mark.skipif(find_spec("opentelemetry.sdk") is not None, reason="the SDK is installed")
def test_telemetry_without_its_sdk_refuses_to_start(tmp_path: Path) -> None:
    """One line that says what to install, instead of traces that never come."""
    with pytest.raises(StartupError, match=r"fastapi\[opentelemetry\]"):
        telemetry(settings_for(tmp_path, otel=True))
