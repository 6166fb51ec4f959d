"""What all runs against one service share: the service, its users, and what the client can do."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.errors import LoadTestError
from loadtest.plan import Plan, mix_of
from loadtest.processes import Observed, Usage, Used, echo_server, run_client, service
from loadtest.summary import Summary, summarize
from loadtest.target import Target, made_up_visitors, read_visitors, wheres_for
from loadtest.traffic import DEFAULT_MIX, Kind, Visitor

MOST_IN_FLIGHT = 512
CAPACITY_USERS = 32
REACH_S = 20.0  # for a service that somebody else started


@dataclass(frozen=True)
class Options:
    """Which service, and who comes; see `python -m loadtest run --help`."""

    url: str | None = None
    bundle_dir: Path | None = None
    data: Path | None = None
    history_url: str | None = None
    serve_args: str = ""
    key_file: Path | None = None
    mix: str | None = None
    limit: int = 10
    seed: int = 0
    client_check_s: float = 2.0

    def key(self) -> str | None:
        """The API key, or LoadTestError."""
        if self.key_file is None:
            return None
        try:
            return self.key_file.read_text("utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise LoadTestError(f"{self.key_file}: not a readable key file") from error


@dataclass(frozen=True)
class Outcome:
    """One run.

    Args:
        plan: what was sent.
        observed: what the client brought back.
        summary: what that amounts to.
        usage: of the service, if it is ours.
        client_rate: requests/s that the client can send at most.
    """

    plan: Plan
    observed: Observed
    summary: Summary
    usage: Usage | None
    client_rate: float

    @property
    def headroom(self) -> float:
        """How many times more than it did send the client could have sent."""
        sent = self.observed.rows["sent_s"].drop_nulls()
        if sent.is_empty():
            return float("inf")
        busiest = sent.floor().value_counts()["count"].max()
        assert isinstance(busiest, int)
        return self.client_rate / busiest

    @property
    def used(self) -> Used | None:
        """What the service used in the measured part; None if it is not ours."""
        if self.usage is None:
            return None
        schedule, start_s = self.plan.schedule, self.observed.start_s
        return self.usage.within(start_s + schedule.warmup_s, start_s + schedule.total_s)

    @property
    def memory_growth_mb(self) -> float | None:
        """How much more memory the service held at the end; None if it is not ours."""
        used = self.used
        return None if used is None else used.resident_end_mb - used.resident_begin_mb


@dataclass(frozen=True)
class Session:
    """A service that is ready, and what is needed to load it."""

    options: Options
    url: str
    visitors: list[Visitor]
    wheres: tuple[str, ...]
    pid: int | None
    client_rate: float

    def plan(
        self, *, duration_s: float, rate: float = 0.0, users: int | None = None, **changes: object
    ) -> Plan:
        """A plan for this service: an open loop at `rate`, or a closed one of `users`."""
        common = {
            "duration_s": duration_s,
            "seed": self.options.seed,
            "limit": self.options.limit,
            "mix": DEFAULT_MIX if self.options.mix is None else mix_of(self.options.mix),
            "wheres": self.wheres,
            "visitors": self.visitors,
        }
        loop: dict[str, object] = {"arrivals": "closed", "users": users}
        if users is None:
            loop = {"arrivals": "open", "rate": rate, "users": MOST_IN_FLIGHT}
        return Plan.model_validate({**common, **loop, **changes})

    def run(self, plan: Plan, folder: Path) -> Outcome:
        """Send what a plan says; the folder gets the record."""
        folder.mkdir(parents=True, exist_ok=True)
        usage = None if self.pid is None else Usage(self.pid)
        with ExitStack() as stack:
            if usage is not None:
                stack.enter_context(usage.watched())
            observed = run_client(plan, self.url, folder, self.options.key_file)
        summary = summarize(observed.rows, plan.schedule, observed.cpu_share)
        return Outcome(plan, observed, summary, usage, self.client_rate)


@contextmanager
def session(options: Options, folder: Path, say: Callable[[str], None]) -> Iterator[Session]:
    """Bring a service and its users about; what was made for the test goes with the block.

    Args:
        options: which service.
        folder: gets the logs.
        say: tells the person at the terminal.
    """
    if (options.url is None) == (options.bundle_dir is None):
        raise LoadTestError("give one of --url and --bundle-dir")
    if options.mix is not None:
        mix_of(options.mix)  # wrong ones are found before anything is started
    key = options.key()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        url, pid = stack.enter_context(_service(options, folder, say))
        target = Target(url, key)
        items = target.items()
        if not items:
            raise LoadTestError(f"{url} has no items to recommend")
        if options.data is None:
            visitors = made_up_visitors(items, options.seed)
            say(f"writing histories of {len(visitors)} made-up users; they are deleted at the end")
            stack.callback(target.forget, visitors)
            target.write(visitors)
        else:
            visitors = read_visitors(options.data, options.seed)
        client_rate = measure_client(visitors, options.client_check_s)
        say(f"the client can send {client_rate:,.0f} requests/s")
        yield Session(options, url, visitors, wheres_for(items), pid, client_rate)


def measure_client(visitors: list[Visitor], duration_s: float) -> float:
    """Requests/s that the client gets answered by a server that does nothing.

    Args:
        visitors: who come.
        duration_s: for how long, after half as long.
    """
    mix: dict[Kind, float] = {"known": 0.7, "inline": 0.2, "history": 0.1}
    plan = Plan(
        arrivals="closed",
        users=CAPACITY_USERS,
        warmup_s=duration_s / 2,
        duration_s=duration_s,
        mix=mix,
        visitors=tuple(visitors),
    )
    with TemporaryDirectory() as folder, echo_server() as url:
        observed = run_client(plan, url, Path(folder))
    return summarize(observed.rows, plan.schedule, observed.cpu_share).answered_rate


@contextmanager
def _service(
    options: Options, folder: Path, say: Callable[[str], None]
) -> Iterator[tuple[str, int | None]]:
    """The address of the service, and its process id if it is ours."""
    if options.bundle_dir is None:
        assert options.url is not None
        Target(options.url).until_ready(REACH_S)
        yield options.url, None
        return
    say(f"starting a service of {options.bundle_dir}")
    with TemporaryDirectory() as scratch:
        store = options.history_url or f"sqlite:///{scratch}/histories.sqlite3"
        with service(options.bundle_dir, store, options.data, options.serve_args, folder) as (
            url,
            pid,
        ):
            yield url, pid
