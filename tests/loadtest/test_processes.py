"""The client's measure of itself, its records and its plan; what processes use."""

import asyncio
from pathlib import Path

import pytest

from loadtest.echo import RESPONSE, Echo
from loadtest.errors import LoadTestError
from loadtest.plan import Plan, mix_of, read_plan
from loadtest.processes import Usage, run_client
from loadtest.records import NO_ANSWER, Row, read_rows, write_rows
from loadtest.session import measure_client
from loadtest.traffic import Visitor

VISITORS = [Visitor(f"u{n}", ("a", "b")) for n in range(5)]


async def test_the_echo_answers_requests_in_any_pieces() -> None:
    """Two and a half requests in one piece, the rest later: three answers."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    request = b"POST /recommend HTTP/1.1\r\nHost: e\r\nContent-Length: 5\r\n\r\n{   }"

    writer.write(request + b"GET / HTTP/1.1\r\n\r\n" + request[:40])
    two = await reader.readexactly(2 * len(RESPONSE))
    writer.write(request[40:])
    third = await reader.readexactly(len(RESPONSE))

    writer.close()
    server.close()
    assert two + third == RESPONSE * 3


def test_the_client_is_measured_before_it_measures() -> None:
    """It sends many times what one core of a service answers."""
    assert measure_client(VISITORS, 1.0) > 200


def test_a_client_that_fails_is_told(tmp_path: Path) -> None:
    """With the log to look into."""
    plan = Plan(arrivals="open", rate=1, users=1, duration_s=1, visitors=tuple(VISITORS))

    with pytest.raises(LoadTestError, match=r"client\.log"):
        run_client(plan, "http://127.0.0.1:1", tmp_path, key_file=tmp_path / "none")


@pytest.mark.parametrize(
    "wrong", [{"arrivals": "open", "rate": 0}, {"arrivals": "closed", "mix": {"known": 0}}]
)
def test_a_plan_that_sends_nothing_is_refused(wrong: dict[str, object]) -> None:
    """An open loop needs a rate, and the mix a weight."""
    with pytest.raises(ValueError, match="above 0"):
        Plan.model_validate({"users": 1, "duration_s": 1, "visitors": VISITORS, **wrong})


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    """Whoever has the file sends the same again; another file is refused."""
    plan = Plan(arrivals="closed", users=2, duration_s=1, visitors=tuple(VISITORS))
    path = tmp_path / "plan.json"
    path.write_text(plan.model_dump_json(), "utf-8")

    assert read_plan(path) == plan
    path.write_text("{}", "utf-8")
    with pytest.raises(LoadTestError, match="not a plan"):
        read_plan(path)


def test_a_mix_is_weights_by_kind() -> None:
    """As on the command line."""
    assert mix_of("known=3, events=0.5") == {"known": 3, "events": 0.5}


def test_rows_survive_their_file(tmp_path: Path) -> None:
    """In the order in which they were due, with nothing for what never happened."""
    late = Row("b", 2.0, None, None, NO_ANSWER, "never sent")
    early = Row("a", 1.0, 1.1, 1.2, 200, None, ("history",))

    write_rows(tmp_path / "requests.parquet", [late, early])

    assert read_rows(tmp_path / "requests.parquet").rows() == [
        ("a", 1.0, 1.1, 1.2, 200, None, ["history"]),
        ("b", 2.0, None, None, 0, "never sent", []),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["requests.parquet"]


def test_a_record_that_is_none_is_refused(tmp_path: Path) -> None:
    """With its name."""
    (tmp_path / "requests.parquet").write_text("none", "utf-8")

    with pytest.raises(LoadTestError, match=r"requests\.parquet"):
        read_rows(tmp_path / "requests.parquet")


def test_watching_a_process_that_is_gone_just_ends() -> None:
    """There is no process of this number."""
    usage = Usage(pid=2**22 + 1)

    with usage.watched():
        pass

    assert usage.time_s == []
