"""Log lines as they are written: one JSON object each, libraries' lines included."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.logs import configure_logging


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging is the process's: put it back."""
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn.error")
    handlers, levels = root.handlers[:], (root.level, uvicorn.level)
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    uvicorn.setLevel(levels[1])


def test_our_lines_and_theirs_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Same form, same request id, whoever writes."""
    configure_logging("info", "json")
    structlog.contextvars.bind_contextvars(request_id="r1")

    structlog.get_logger().info("request", status=200)
    logging.getLogger("library").warning("careful with %s", "this")
    structlog.contextvars.clear_contextvars()

    ours, theirs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (ours["event"], ours["status"], ours["level"]) == ("request", 200, "info")
    assert (theirs["event"], theirs["level"]) == ("careful with this", "warning")
    assert ours["request_id"] == theirs["request_id"] == "r1"
    assert {"timestamp"} <= ours.keys() & theirs.keys()


def test_a_traceback_is_one_line_without_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """It names the place and the error, not what users had in their histories."""
    configure_logging("info", "json")
    history = ["private"]
    try:
        history.index("x")
    except ValueError:
        structlog.get_logger().exception("failed")

    (line,) = capsys.readouterr().out.splitlines()
    assert "ValueError" in json.loads(line)["exception"]
    assert "private" not in line


def test_what_is_not_unicode_is_written_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """A log line never raises."""
    configure_logging("info", "json")
    structlog.get_logger().info("odd", text="\ud800", thing=object)

    assert json.loads(capsys.readouterr().out)["text"] == "\ud800"


def test_the_level_is_kept_to(capsys: pytest.CaptureFixture[str]) -> None:
    """Below it, nobody writes; uvicorn's chatter starts at warning anyway."""
    configure_logging("info", "json")
    structlog.get_logger().debug("ours")
    logging.getLogger("library").debug("theirs")
    logging.getLogger("uvicorn.error").info("Started server process")

    assert capsys.readouterr().out == ""


def test_lines_for_people_are_not_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The console form has the same words."""
    configure_logging("info", "console")
    structlog.get_logger().info("ready", url="http://127.0.0.1")

    out = capsys.readouterr().out
    assert "ready" in out
    assert not out.startswith("{")
