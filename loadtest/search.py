"""A search for the highest rate, against a service: probes are runs, each with its report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtest.find_rate import Probe, find_rate, objective
from loadtest.plan import Plan
from loadtest.rate_report import offline_throughput, write_rate
from loadtest.report import write_report
from loadtest.session import Options, Session, session
from loadtest.slo import judge

CAPACITY_USERS = 32
ABOVE_CAPACITY = 1.1


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Args:
        probe_s, confirm_s: of a short probe, and of the long one at the end.
        warmup_s: before each.
        precision: stop when the rate is known to this share of it.
    """

    probe_s: float
    confirm_s: float
    warmup_s: float
    precision: float


def search(
    options: Options,
    p99_ms: float,
    effort: Effort,
    folder: Path,
    command: str,
    say: Callable[[str], None],
) -> bool:
    """Find the highest rate below what a closed loop reaches, and write rate.json; if any held.

    Args:
        options: which service, and who comes.
        p99_ms: what is to hold.
        effort: how long to try.
        folder: gets rate.json, and the last run's report.
        command: for the report.
        say: tells the person at the terminal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    offline = []
    if options.bundle_dir is not None and options.data is not None:
        say("measuring the engine alone")
        offline = offline_throughput(options.bundle_dir, options.data, folder)
    with session(options, folder, say) as ready:
        attempt = Attempt(ready, p99_ms, effort.warmup_s, folder, command, say)
        closed = ready.run(attempt.plan(effort.probe_s, users=CAPACITY_USERS), folder)
        capacity = closed.summary.arrivals_per_s
        say(f"closed loop of {CAPACITY_USERS} users: {capacity:.1f} arrivals/s")
        found = find_rate(
            attempt,
            capacity * ABOVE_CAPACITY,
            probe_s=effort.probe_s,
            confirm_s=effort.confirm_s,
            precision=effort.precision,
        )
    for line in write_rate(found, p99_ms, offline, folder):
        say(line)
    return found.rate is not None


@dataclass(frozen=True)
class Attempt:
    """Tries rates; see `search`."""

    ready: Session
    p99_ms: float
    warmup_s: float
    folder: Path
    command: str
    say: Callable[[str], None]

    def plan(self, duration_s: float, *, rate: float = 0.0, users: int | None = None) -> Plan:
        """A steady load, after the warm-up."""
        return self.ready.plan(
            duration_s=duration_s, rate=rate, users=users, warmup_s=self.warmup_s
        )

    def __call__(self, rate: float, duration_s: float) -> Probe:
        """How one rate went; its report replaces the one before."""
        outcome = self.ready.run(self.plan(duration_s, rate=rate), self.folder)
        slo = objective(rate, self.p99_ms)
        verdicts = judge(slo, outcome.summary, overload=False)
        write_report(outcome, verdicts, slo, self.folder, self.command)
        recommended = outcome.summary.recommendations
        broken = [verdict.name for verdict in verdicts if not verdict.held]
        p99 = "none" if recommended.p99_ms is None else f"{recommended.p99_ms:.1f} ms"
        why = f"broken: {', '.join(broken)}" if broken else "held"
        self.say(f"{rate:.1f} arrivals/s for {duration_s:g} s: p99 {p99}; {why}")
        return Probe(
            rate,
            duration_s,
            not broken,
            recommended.p99_ms,
            recommended.answered / duration_s,
            outcome.summary.error_rate,
            outcome.summary.degraded_rate,
        )
