"""One run, from what was asked for to its report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtest.errors import LoadTestError
from loadtest.report import write_report
from loadtest.schedules import Shape
from loadtest.session import Options, session
from loadtest.slo import Slo, judge, read_slo


@dataclass(frozen=True)
class Load:
    """How much comes, and when.

    Args:
        rate: arrivals/s, an open loop; or None.
        users: who ask again once answered, a closed loop; or None. One of the two is given.
        shape: of the load over time.
        duration_s: of the measured part.
        warmup_s: before it.
    """

    rate: float | None
    users: int | None
    shape: Shape
    duration_s: float
    warmup_s: float


def run_and_report(
    options: Options,
    load: Load,
    slo_file: Path | None,
    folder: Path,
    command: str,
    say: Callable[[str], None],
    *,
    overload: bool,
) -> bool:
    """Load a service and write a report; whether the objective held.

    Args:
        options: which service, and who comes.
        load: how much.
        slo_file: TOML; None = no errors, and the client was not the bottleneck.
        folder: for the report.
        command: for the report.
        say: tells the person at the terminal.
        overload: 429 is no error.
    """
    if (load.rate is None) == (load.users is None):
        raise LoadTestError("give one of --rate (open loop) and --users (closed loop)")
    slo = Slo() if slo_file is None else read_slo(slo_file)
    with session(options, folder, say) as ready:
        plan = ready.plan(
            duration_s=load.duration_s,
            rate=load.rate or 0.0,
            users=load.users,
            shape=load.shape,
            warmup_s=load.warmup_s,
        )
        outcome = ready.run(plan, folder)
    growth = outcome.memory_growth_mb
    verdicts = judge(slo, outcome.summary, overload=overload, memory_growth_mb=growth)
    for line in write_report(outcome, verdicts, slo, folder, command, overload=overload):
        say(line)
    return all(verdict.held for verdict in verdicts)
