"""The report: a page, a document and pictures."""

import json
import re
from pathlib import Path

from loadtest.processes import Usage
from loadtest.report import write_report
from loadtest.slo import Latency, Slo, judge
from tests.loadtest.runs import KNOWN, frame, outcome, row

PNG = b"\x89PNG\r\n"


def test_a_report_holds_verdicts_numbers_and_pictures(tmp_path: Path) -> None:
    """The page stands alone; the document has what the page shows; users are not in it."""
    rows = frame(*(row(2 + place / 20, 0.02) for place in range(180)), row(5, status=429))
    usage = Usage(1, [1_002.0, 1_007.0, 1_011.0], [1.0, 6.0, 10.0], [100.0, 110.0, 120.0])
    found, slo = outcome(rows, usage), Slo(latency_ms=Latency(p99=10))

    said = write_report(found, judge(slo, found.summary, overload=False), slo, tmp_path, "a & b")

    page = (tmp_path / "report.html").read_text("utf-8")
    document = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert document["held"] is False
    assert document["summary"]["by_name"][KNOWN]["answered"] == 180
    assert document["service"] == {"cores": 1, "resident_begin_mb": 100, "resident_end_mb": 120}
    assert "secret-user" not in page + json.dumps(document)
    assert "a &amp; b" in page
    assert KNOWN in page
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r"(src|href)=\"?http", page)
    assert any(line.startswith("broken: p99, ms") for line in said)
    pictures = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert pictures.keys() == {"latency.png", "rate.png", "status.png", "service.png"}
    assert all(picture.startswith(PNG) for picture in pictures.values())


def test_a_run_in_which_nothing_was_answered_has_a_report(tmp_path: Path) -> None:
    """That is when one is wanted most."""
    found = outcome(frame(row(5, None, status=0, fault="no answer: ConnectionRefusedError")))

    said = write_report(found, judge(Slo(), found.summary, overload=False), Slo(), tmp_path, "")

    page = (tmp_path / "report.html").read_text("utf-8")
    assert "no answer: ConnectionRefusedError" in page
    assert "1 times: no answer: ConnectionRefusedError" in said


def test_headroom_is_over_the_busiest_second() -> None:
    """Twenty in one second, and a client that can send a hundred."""
    rows = frame(*(row(5 + place / 100) for place in range(20)), row(7))

    assert outcome(rows).headroom == 5
    assert outcome(frame()).headroom == float("inf")
