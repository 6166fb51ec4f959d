"""What a run is held to."""

from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.slo import Latency, Limits, Overload, Slo, judge, read_slo
from loadtest.summary import summarize
from tests.loadtest.runs import SCHEDULE, Row, frame, row

SHIPPED = Path(__file__).parents[2] / "loadtest" / "slo.toml"


def broken(slo: Slo, *rows: Row, overload: bool = False, cpu_share: float = 0.1) -> set[str]:
    """The names of what did not hold."""
    summary = summarize(frame(*rows), SCHEDULE, cpu_share)
    return {each.name for each in judge(slo, summary, overload=overload) if not each.held}


def test_each_percentile_has_its_limit() -> None:
    """Exactly at the limit is within it."""
    slo = Slo(latency_ms=Latency(p50=10, p95=20, p99=30))

    assert broken(slo, row(4, 0.0099)) == set()
    assert broken(slo, row(4, 0.015)) == {"p50, ms"}
    assert broken(slo, row(4, 0.025)) == {"p50, ms", "p95, ms"}
    assert broken(slo, row(4, 0.035)) == {"p50, ms", "p95, ms", "p99, ms"}


def test_without_an_objective_every_error_counts() -> None:
    """One refusal among many answers is one too many, unless a rate allows it."""
    rows = [row(4) for _ in range(99)] + [row(4, status=429)]

    assert broken(Slo(), *rows) == {"error rate"}
    assert broken(Slo(limits=Limits(error_rate=0.01)), *rows) == set()


def test_no_answer_at_all_breaks_every_limit() -> None:
    """Nothing measured is not good enough."""
    assert broken(Slo(latency_ms=Latency(p99=100))) == {"p99, ms", "error rate"}


def test_a_growing_queue_breaks_the_backlog() -> None:
    """Even if those answered in time were answered in time."""
    slo = Slo(limits=Limits(error_rate=1, backlog=1))

    assert broken(slo, row(11.9, 5)) == set()
    assert broken(slo, row(11.9, 5), row(11.9, 5)) == {"backlog"}


def test_so_many_answers_may_do_with_less() -> None:
    """One that had to do without two things is one."""
    slo = Slo(limits=Limits(degraded_rate=0.5))
    less = row(4, degraded=("beam_width", "retention_ratio"))

    assert broken(slo, row(4), less) == set()
    assert broken(slo, row(4), less, less) == {"degraded answers"}


def test_memory_may_grow_by_so_much() -> None:
    """If it is not known how much it grew, that is not good enough."""
    slo, summary = Slo(limits=Limits(memory_growth_mb=50)), summarize(frame(row(4)), SCHEDULE, 0.1)

    held = {
        growth: all(v.held for v in judge(slo, summary, overload=False, memory_growth_mb=growth))
        for growth in (-3.0, 50.0, 51.0, None)
    }

    assert held == {-3: True, 50: True, 51: False, None: False}


def test_overload_allows_429_and_nothing_else() -> None:
    """Latency of what was accepted is bounded; 500s and wrong answers are not excused."""
    slo = Slo(latency_ms=Latency(p50=1), overload=Overload(p99_ms=1_000))
    refused = [row(4, status=429) for _ in range(50)]

    assert broken(slo, *refused, row(4, 0.9), overload=True) == set()
    assert broken(slo, *refused, row(4, 1.1), overload=True) == {"p99, ms"}
    assert broken(slo, row(4), row(4, status=503, fault="status 503"), overload=True) == {
        "statuses of 500 and more",
        "errors other than 429",
    }
    assert broken(slo, row(4), row(4, fault="an item came twice"), overload=True) == {
        "errors other than 429"
    }


@pytest.mark.parametrize("overload", [False, True])
def test_a_client_that_was_the_bottleneck_proves_nothing(overload: bool) -> None:
    """A run whose client had no processor time left does not count."""
    assert broken(Slo(), row(4), overload=overload, cpu_share=0.95) == {"client's share of a core"}


def test_the_shipped_objective_can_be_read() -> None:
    """It holds the hundred milliseconds that the documentation names."""
    assert read_slo(SHIPPED).latency_ms.p99 == 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latency_ms = {p90 = 5}", "latency_ms.p90"),
        ("[limits]\nerror_rate = 2", "limits.error_rate"),
        ("[limits", "slo.toml"),
        ("[latency_ms]\np99 = 0", "latency_ms.p99"),
    ],
)
def test_a_wrong_objective_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    """The line names the file and the place."""
    path = tmp_path / "slo.toml"
    path.write_text(text, "utf-8")

    with pytest.raises(LoadTestError, match=said) as error:
        read_slo(path)

    assert "\n" not in str(error.value)


def test_an_objective_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """It names the file."""
    with pytest.raises(LoadTestError, match=r"none\.toml"):
        read_slo(tmp_path / "none.toml")
