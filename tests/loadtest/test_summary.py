"""What the rows of a run amount to, and how they go over time."""

import numpy as np
import polars as pl

from loadtest.series import over_time
from loadtest.summary import summarize
from tests.loadtest.runs import HISTORY, KNOWN, SCHEDULE, Row, frame, row


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A client that was itself late cannot hide it."""
    late: Row = (KNOWN, 5.0, 5.9, 6.0, 200, None, [])

    summary = summarize(frame(late), SCHEDULE, 0.1)

    assert summary.recommendations.p50_ms == 1_000
    assert round(summary.late_p99_ms or 0) == 900


def test_the_warm_up_is_not_counted() -> None:
    """Nor what was due after the end."""
    rows = frame(row(1.9), row(2.0), row(11.9), row(12.0))

    assert summarize(rows, SCHEDULE, 0.1).num_requests == 2


def test_percentiles_are_values_that_were_seen() -> None:
    """The 50th, 95th and 99th of a hundred, and the largest."""
    rows = frame(*(row(2 + place / 100, place / 1000) for place in range(1, 101)))

    latency = summarize(rows, SCHEDULE, 0.1).recommendations

    times = (latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms)
    assert [round(time or 0) for time in times] == [51, 96, 100, 100]


def test_the_objective_is_about_recommendations() -> None:
    """Quick reads of histories do not make them look faster; they have a row of their own."""
    rows = frame(row(3, 0.1), *(row(3, 0.001, name=HISTORY) for _ in range(9)))

    summary = summarize(rows, SCHEDULE, 0.1)

    assert round(summary.recommendations.p50_ms or 0) == 100
    assert summary.by_name[HISTORY].requests == 9


def test_whatever_is_not_a_good_answer_is_an_error() -> None:
    """429, 500, silence and wrong content; what each was is told."""
    rows = frame(
        row(3),
        row(3, status=429),
        row(3, status=503, fault="status 503"),
        row(3, None, status=0, fault="never answered"),
        row(3, fault="an item came twice"),
        row(3, degraded=("history", "beam_width")),
    )

    summary = summarize(rows, SCHEDULE, 0.1)

    assert (summary.num_requests, summary.num_errors) == (6, 4)
    assert (summary.num_429, summary.num_5xx) == (1, 1)
    assert (summary.degraded, summary.degraded_rate) == ({"history": 1, "beam_width": 1}, 0.5)
    assert summary.error_rate == 4 / 6
    assert set(summary.faults) == {"status 503", "never answered", "an item came twice"}


def test_the_backlog_is_what_the_end_found_waiting() -> None:
    """Due before it, done after it or never."""
    rows = frame(row(11.5, 0.4), row(11.5, 0.6), row(11.9, None, status=0, fault="never answered"))

    assert summarize(rows, SCHEDULE, 0.1).backlog == 2


def test_no_requests_are_no_success() -> None:
    """All is an error, and there is no latency."""
    summary = summarize(frame(), SCHEDULE, 0.1)

    assert summary.error_rate == 1
    assert summary.recommendations.p99_ms is None


def test_a_run_over_time_loses_no_request() -> None:
    """Each is in its second: asked by when it was due, answered by when it was done."""
    rows = frame(row(0.5, 1.0), row(3.2, 0.02), row(3.4, 0.04), row(11.9, status=429))

    series = over_time(rows, SCHEDULE)

    assert len(series.asked) == 12
    assert series.asked.tolist() == [1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert series.answered.tolist() == [0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]
    assert {name: values.sum() for name, values in series.statuses.items()} == {"200": 3, "429": 1}
    assert round(series.percentiles_ms["p50"][3]) == 30
    assert np.isnan(series.percentiles_ms["p99"][4])


def test_what_went_wrong_is_told_apart_over_time() -> None:
    """No answer and a wrong one are no statuses of HTTP."""
    rows = frame(
        row(3, None, status=0, fault="never sent"), row(3, fault="an item came twice"), row(4)
    )

    assert set(over_time(rows, SCHEDULE).statuses) == {"no answer", "200, wrong", "200"}


def test_an_empty_run_can_be_drawn() -> None:
    """Zeros, and no percentiles."""
    series = over_time(pl.DataFrame(frame()), SCHEDULE)

    assert series.asked.sum() == 0
    assert series.statuses == {}
