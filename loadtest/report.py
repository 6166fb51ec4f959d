"""A run as a page for people (report.html), a document for machines (report.json), and pictures."""

import base64
import html
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.files import write_whole
from loadtest.plots import latency_plot, rate_plot, status_plot, usage_plot
from loadtest.series import over_time
from loadtest.session import Outcome
from loadtest.slo import Slo, Verdict
from loadtest.summary import Latency

STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccc;padding:.2rem .6rem;"
    "text-align:right}td:first-child,th:first-child{text-align:left}img{width:100%}"
    ".held{color:#070}.broken{color:#b00;font-weight:bold}"
)
Rows = list[list[str]]


def document(
    outcome: Outcome, verdicts: Sequence[Verdict], command: str, *, overload: bool
) -> dict[str, Any]:
    """Everything about a run that JSON can hold, the users left out."""
    return {
        "held": all(verdict.held for verdict in verdicts),
        "command": command,
        "date": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 2),
        },
        "overload": overload,
        "plan": outcome.plan.model_dump(exclude={"visitors"})
        | {"num_visitors": len(outcome.plan.visitors)},
        "verdicts": [asdict(verdict) | {"held": verdict.held} for verdict in verdicts],
        "summary": asdict(outcome.summary),
        "client": {
            "most_requests_per_s": outcome.client_rate,
            "headroom": outcome.headroom,
            "cpu_share": outcome.summary.client_cpu_share,
        },
        "service": None if outcome.used is None else asdict(outcome.used),
    }


def write_report(
    outcome: Outcome,
    verdicts: Sequence[Verdict],
    slo: Slo,
    folder: Path,
    command: str,
    *,
    overload: bool = False,
) -> list[str]:
    """Write report.json, report.html and the pictures; what to tell the person at the terminal.

    Args:
        outcome: of the run.
        verdicts: from `judge`.
        slo: what it was held to.
        folder: where to; it exists.
        command: that made it.
        overload: whether 429 was no error.
    """
    found = document(outcome, verdicts, command, overload=overload)
    pictures = pictures_of(outcome, slo)
    for name, picture in pictures.items():
        write_whole(folder / f"{name}.png", picture)
    write_whole(folder / "report.json", json.dumps(found, indent=1) + "\n")
    write_whole(folder / "report.html", page(found, outcome, verdicts, pictures))
    return [
        *(f"{row[3]}: {row[0]} {row[1]}, at most {row[2]}" for row in verdict_rows(verdicts)),
        *(f"{number} times: {fault}" for fault, number in outcome.summary.faults.items()),
        f"client: {outcome.summary.client_cpu_share:.0%} of a core; it can send "
        f"{outcome.headroom:.1f} times what it sent in its busiest second",
        f"report: {folder / 'report.html'}",
    ]


def pictures_of(outcome: Outcome, slo: Slo) -> dict[str, bytes]:
    """The pictures of a report by name; PNG."""
    schedule = outcome.plan.schedule
    series = over_time(outcome.observed.rows, schedule)
    pictures = {
        "latency": latency_plot(series, schedule, slo),
        "rate": rate_plot(series, schedule),
        "status": status_plot(series, schedule),
    }
    if outcome.usage is not None and outcome.usage.time_s:
        start_s = outcome.observed.start_s
        pictures["service"] = usage_plot(outcome.usage, start_s, series, schedule)
    return pictures


def page(
    found: dict[str, Any],
    outcome: Outcome,
    verdicts: Sequence[Verdict],
    pictures: dict[str, bytes],
) -> str:
    """The HTML page, pictures inside."""
    plan = outcome.plan
    load = f"{plan.rate:g} arrivals/s" if plan.arrivals == "open" else f"{plan.users} users"
    title = f"Load test: {plan.shape}, {plan.arrivals} loop, {load}, {plan.duration_s:g} s"
    word = "held" if found["held"] else "broken"
    images = [
        f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        for name, picture in pictures.items()
    ]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>",
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>",
        f'<p>Objective: <span class="{word}">{word}</span>. {html.escape(found["date"])}, '
        f"<code>{html.escape(found['command'])}</code></p>",
        _table(["objective", "found", "limit", ""], verdict_rows(verdicts)),
        *images,
        "<h2>Requests</h2>",
        _table(
            ["request", "sent", "answered", "429", "p50, ms", "p95", "p99", "max"],
            latency_rows(outcome),
        ),
        "<h2>Run</h2>",
        _table(["", ""], run_rows(found, outcome)),
    ]
    if outcome.summary.faults:
        rows = [[fault, f"{n:,}"] for fault, n in outcome.summary.faults.items()]
        parts += ["<h2>Faults</h2>", _table(["fault", "requests"], rows)]
    return "\n".join(parts) + "\n"


def verdict_rows(verdicts: Iterable[Verdict]) -> Rows:
    """Name, found, limit, whether it held."""
    return [
        [each.name, _number(each.found), f"{each.limit:g}", "held" if each.held else "broken"]
        for each in verdicts
    ]


def latency_rows(outcome: Outcome) -> Rows:
    """A row for each kind of request, and one for all recommendations."""
    every = {"all recommendations": outcome.summary.recommendations, **outcome.summary.by_name}
    return [[name, *_latency(latency)] for name, latency in every.items()]


def run_rows(found: dict[str, Any], outcome: Outcome) -> Rows:
    """What else there is to know about a run."""
    summary, client = outcome.summary, found["client"]
    rows = [
        ["requests/s due (those after an event included)", _number(summary.asked_rate)],
        ["requests/s answered", _number(summary.answered_rate)],
        ["due and unanswered at the end", f"{summary.backlog:,}"],
        *([f"degraded answers: {what}", f"{n:,}"] for what, n in summary.degraded.items()),
        ["sent late by, p99, ms", _number(summary.late_p99_ms)],
        ["client: share of a core", _number(client["cpu_share"])],
        ["client: requests/s it can send", f"{client['most_requests_per_s']:,.0f}"],
        ["client: headroom over the busiest second", f"{client['headroom']:.1f} times"],
    ]
    if found["service"] is not None:
        rows += [[f"service: {name}", _number(value)] for name, value in found["service"].items()]
    return rows


def _latency(latency: Latency) -> list[str]:
    counts = [latency.requests, latency.answered, latency.rejected]
    times = [latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms]
    return [*(f"{count:,}" for count in counts), *map(_number, times)]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _table(head: Sequence[str], rows: Rows) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        marked = (
            f'<{tag} class="{cell}">' if cell in {"held", "broken"} else f"<{tag}>"
            for cell in cells
        )
        return "".join(
            f"{mark}{html.escape(cell)}</{tag}>" for mark, cell in zip(marked, cells, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{line(head, 'th')}</tr>{body}</table>"
