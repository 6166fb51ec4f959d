"""The client, for Locust: sends what a plan says and records every answer.

`python -m loadtest run` starts it in a process of its own, because gevent rewires the standard
library. It also runs by hand, with Locust's web page: see docs/loadtest.md.
"""

import gc
import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import gevent
from geventhttpclient.client import HTTPClientPool
from locust import FastHttpUser, LoadTestShape, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser

from loadtest.plan import Plan, read_plan
from loadtest.records import CLIENT_FILE, NO_ANSWER, Row, write_rows
from loadtest.traffic import NAMES, RECOMMENDS, Call, Traffic, fault_in

SPAWN_S = 1.0  # until all users are there and the first request may be due
TIMEOUT_S = 70.0  # longer than any deadline a request can have
HEADERS = {"Content-Type": "application/json"}
GC_THRESHOLDS = (10_000, 20, 1_000)
"""Looking at all a client holds stops it for 70 ms, twice a minute, and is seen as latency."""


class Run:
    """What all users of the process share."""

    def __init__(self, plan: Plan, key: str | None) -> None:
        self.plan = plan
        self.schedule = plan.schedule
        self.traffic: Traffic = plan.traffic()
        is_open = plan.arrivals == "open"
        self.due_s = self.schedule.arrivals(plan.rate, plan.seed) if is_open else []
        self.places: Iterator[int] = count()
        self.rows: list[Row] = []
        self.in_flight: dict[int, tuple[str, float, float]] = {}
        self.tokens = count()
        self.num_taken = 0
        self.headers = HEADERS if key is None else {**HEADERS, "X-API-Key": key}
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self.start_s = time.perf_counter() + SPAWN_S
        self.cpu_s = 0.0
        gevent.spawn(_watch_cpu, self)

    def now_s(self) -> float:
        """Since the start; below 0 while users are made."""
        return time.perf_counter() - self.start_s

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to send and nothing to wait for any more."""
        now_s = self.now_s()
        if now_s < self.schedule.total_s:
            return False
        all_taken = self.num_taken == len(self.due_s)
        return (
            all_taken and not self.in_flight
        ) or now_s > self.schedule.total_s + self.plan.drain_s

    def unanswered(self) -> list[Row]:
        """Rows of what was sent and not answered, and of what was due and never sent."""
        sent = [
            Row(name, due_s, sent_s, None, NO_ANSWER, "never answered")
            for name, due_s, sent_s in self.in_flight.values()
        ]
        late = self.due_s[self.num_taken :]
        return sent + [
            Row("never sent", due_s, None, None, NO_ANSWER, "never sent") for due_s in late
        ]


class Visit(FastHttpUser):
    """Open loop: takes the next arrival, whoever is free. Closed loop: asks again at once."""

    run_: Run  # set before the first user is made
    network_timeout = TIMEOUT_S
    connection_timeout = 10.0

    @task
    def visit(self) -> None:
        """One arrival, and what follows from it."""
        run = self.run_
        if run.plan.arrivals == "open":
            place = next(run.places)
            if place >= len(run.due_s):
                raise StopUser
            due_s = run.due_s[place]
            _sleep_until(run, due_s)
            run.num_taken = max(run.num_taken, place + 1)
            self._ask(due_s)
        else:
            _sleep_until(run, 0.0)
            if run.now_s() >= run.schedule.total_s:
                raise StopUser
            self._ask(run.now_s())

    def _ask(self, due_s: float) -> None:
        call = self.run_.traffic.next_call()
        answer = self._send(call, due_s)
        if answer is not None and call.name == NAMES["events"]:
            self._send(self.run_.traffic.after(call), self.run_.now_s())

    def _send(self, call: Call, due_s: float) -> dict[str, Any] | None:
        """Send, record, and return the answer if it is one of status 200 without faults."""
        run, token = self.run_, next(self.run_.tokens)
        sent_s = run.now_s()
        run.in_flight[token] = (call.name, due_s, sent_s)
        with self.client.request(
            call.method,
            call.path,
            name=call.name,
            data=call.body,
            headers=run.headers,
            catch_response=True,
        ) as response:
            done_s = run.now_s()
            del run.in_flight[token]
            answer, fault = _read(call, response)
            degraded = tuple((answer or {}).get("degraded", ()))
            row = Row(call.name, due_s, sent_s, done_s, response.status_code, fault, degraded)
            run.rows.append(row)
            response.request_meta["response_time"] = (done_s - due_s) * 1000
            if response.status_code == 429:
                response.request_meta["name"] = f"{call.name}: 429"
                response.success()
            elif fault is not None:
                response.failure(fault)
        if answer is None or fault is not None:
            return None
        if call.name in RECOMMENDS:
            run.traffic.offered(call, answer)
        return answer


def _read(call: Call, response: Any) -> tuple[dict[str, Any] | None, str | None]:
    """The answer of status 200, and what is wrong."""
    status = response.status_code
    if status == NO_ANSWER:
        return None, f"no answer: {type(response.error).__name__}"
    if status != 200:
        return None, None if status == 429 else f"status {status}"
    try:
        answer = json.loads(response.content)
        return answer, fault_in(call, answer)
    except (ValueError, KeyError, TypeError):
        return None, "not the JSON that was promised"


def _sleep_until(run: Run, due_s: float) -> None:
    left_s = due_s - run.now_s()
    if left_s > 0:
        gevent.sleep(left_s)


class Shape(LoadTestShape):
    """Makes as many users as the plan says, and ends with it."""

    plan: ClassVar[Plan]
    key: ClassVar[str | None]

    def reset_time(self) -> None:
        """Begin a run; Locust calls it before it asks for the first user."""
        super().reset_time()
        Visit.run_ = Run(self.plan, self.key)

    def tick(self) -> tuple[int, float] | None:
        """Users and how many to make each second; None = the end. Asked once a second."""
        run = Visit.run_
        if run.is_over:
            return None
        users = run.plan.users
        if run.plan.arrivals == "closed":
            users = run.schedule.users_at(run.now_s() + 0.5, users)
        return users, max(users / SPAWN_S * 2, 100)


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--plan", required=True, help="The plan.json of a load test.")
    parser.add_argument("--record", default="", help="Parquet file for a row of each request.")
    parser.add_argument("--key-file", default="", help="File with an API key.")


@events.init.add_listener
def _begin(environment: Environment, **_: object) -> None:
    options = environment.parsed_options
    assert options is not None
    plan = read_plan(Path(options.plan))
    key = Path(options.key_file).read_text("utf-8").strip() if options.key_file else None
    # One pool: a connection that was just used is used next, so that there are only as many as
    # requests in flight.
    Visit.client_pool = HTTPClientPool(
        concurrency=plan.users, network_timeout=TIMEOUT_S, connection_timeout=10.0
    )

    Shape.plan, Shape.key = plan, key

    @environment.events.quitting.add_listener
    def _end(**_: object) -> None:
        if options.record:
            _write(Path(options.record), Visit.run_)


def _watch_cpu(run: Run) -> None:
    """Note the processor time of the load alone, without start and end."""
    gevent.sleep(max(0.0, run.plan.warmup_s - run.now_s()))
    begin_s = time.process_time()
    gevent.sleep(run.plan.duration_s)
    run.cpu_s = time.process_time() - begin_s


def _write(record: Path, run: Run) -> None:
    write_rows(record, run.rows + run.unanswered())
    beside = {
        "client_cpu_share": run.cpu_s / run.plan.duration_s,
        "start_s": time.time() - run.now_s(),
    }
    record.with_name(CLIENT_FILE).write_text(json.dumps(beside), "utf-8")
