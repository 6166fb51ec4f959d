"""docker-compose.yml on a real engine, from a fresh clone to a graceful end: `make containers`.

The engine is the one that `docker` finds (DOCKER_HOST). Each step is timed and has to hold; the
first that does not ends the check. Where the official images cannot be pulled, BASE_IMAGE,
VALKEY_IMAGE, TORCH_INDEX and BUILD_NETWORK name others, as for `docker compose` itself.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from benchmarks.reporting import Titled, record_path, show_tables, write_report
from tests.deploy.pod_cycle import pod_rows
from tests.deploy.stack import Stack
from tests.deploy.steps import HEAD, Steps
from training.environment import environment

USER = "somebody-new"
EVENTS = ["50", "181", "172"]
NUM_CALLERS = 4
MODULE = "tests.deploy.compose_cycle"
IMAGES = ("stamp-recommender:cpu", "stamp-recommender:train", "stamp-recommender:load")


class Cycle(Steps):
    """The steps, in order."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack

    def run(self, *, prune: bool) -> None:
        """Everything."""
        self.build(prune=prune)
        self.first_answer()
        self.confinement()
        self.restart()
        self.load()
        self.graceful_stop()
        self.secrets()

    def build(self, *, prune: bool) -> None:
        """The files are valid with every profile, and the images come of them."""
        with self.step("`docker compose config`, every profile"):
            self.stack.compose("--profile", "*", "config", "--quiet")
        if prune:
            self.stack.run("docker", "builder", "prune", "--all", "--force")
        with self.step("`docker compose build`") as remarks:
            self.stack.compose("build", "stamp", "demo", "load")
            remarks.append("an empty cache" if prune else "with what was in the cache")

    def first_answer(self) -> None:
        """From volumes without anything in them to a recommendation, by one command."""
        with self.step("`docker compose up --wait`, nothing trained yet"):
            self.stack.compose("up", "--wait")
        with self.step("`POST /recommend` for user 196") as remarks:
            answer = recommend(self.stack.url, user_id="196", limit=3)
            assert answer["source"] == "model", answer
            assert len(answer["items"]) == 3, answer
            remarks.append(
                ", ".join(item.get("title") or item["item_id"] for item in answer["items"])
            )

    def confinement(self) -> None:
        """No root, nothing to write on but the volume and /tmp, no capability."""
        with self.step("user, file system and capabilities of the container") as remarks:
            uid = self.stack.attempt("stamp", "id -u")
            denied = self.stack.attempt("stamp", "touch /app/x")
            allowed = self.stack.attempt("stamp", "touch /app/var/x && rm /app/var/x")
            bundles = self.stack.attempt("stamp", "touch /app/bundles/x")
            powers = self.stack.attempt("stamp", "grep CapEff /proc/self/status")
            assert uid == (0, "10001"), uid
            assert "Read-only file system" in denied[1], denied
            assert "Read-only file system" in bundles[1], bundles
            assert allowed[0] == 0, allowed
            assert powers[1].split()[-1].strip("0") == "", powers
            remarks.append("uid 10001, root and bundles read-only, no capability")

    def restart(self) -> None:
        """Events outlive containers, and nothing is trained twice."""
        events = [{"user_id": USER, "item_id": item} for item in EVENTS]
        with self.step("`POST /events`, then `docker compose down`"):
            answer = httpx.post(f"{self.stack.url}/events", json={"events": events}, timeout=10)
            assert answer.json()["applied"] == len(EVENTS), answer.text
            self.stack.compose("down")
        with self.step("`docker compose up --wait` again") as remarks:
            self.stack.compose("up", "--wait")
            assert "nothing to train" in self.stack.compose("logs", "demo")
            remarks.append("nothing is trained again")
        with self.step("the user's history") as remarks:
            history = httpx.get(f"{self.stack.url}/users/{USER}/history", timeout=10).json()
            assert [item["item_id"] for item in history["items"]] == EVENTS, history
            remarks.append(f"{len(EVENTS)} of {len(EVENTS)} events are there")

    def load(self) -> None:
        """The load test reaches the service by its name and leaves its report in a volume."""
        once = ("run", "--rm", "--no-deps", "--no-TTY")
        words = ("run", "--url", "http://stamp:8000", "--users", "4", "--duration", "10")
        with self.step("`docker compose run load`, 4 users for 10 s") as remarks:
            code = self.stack.exit_code(*once, "load", *words)
            found = json.loads(self.stack.read("reports", "loadtest/report.json"))["summary"]
            assert code in {0, 1}, code  # 1: this machine is too slow for both
            assert found["num_requests"] > 0, found
            assert found["num_errors"] == 0, found
            remarks.append(f"{found['num_requests']} requests, no error")

    def graceful_stop(self) -> None:
        """Whoever was being answered is answered, and the exit code is 0."""
        with self.step("`docker compose stop` with requests in flight") as remarks:
            with ThreadPoolExecutor(NUM_CALLERS) as callers:
                asked = [callers.submit(long_batch, self.stack.url) for _ in range(NUM_CALLERS)]
                until_busy(self.stack.url)
                stopped_s = time.monotonic()
                self.stack.compose("stop", "stamp")
            remarks.append(all_answered(asked, stopped_s))
            state = self.stack.state("stamp")
            assert state["ExitCode"] == 0, state
            assert not state["OOMKilled"], state
            remarks.append("exit code 0")

    def secrets(self) -> None:
        """With the overlay nobody comes in without a key, to the service or to the store."""
        self.stack.compose("down")
        self.stack.files = "secrets"
        with self.step("`docker compose up --wait` with secrets"):
            self.stack.run("scripts/secrets.sh")
            self.stack.compose("up", "--wait")
        with self.step("a key for the service, a password for the store") as remarks:
            key = (self.stack.clone / "secrets" / "api_keys").read_text(encoding="utf-8").strip()
            body = {"user_id": USER, "limit": 3}
            without = httpx.post(f"{self.stack.url}/recommend", json=body, timeout=10)
            answer = recommend(self.stack.url, key, **body)
            store = self.stack.attempt("valkey", "valkey-cli ping")
            shown = self.stack.compose("exec", "-T", "stamp", "env")
            assert without.status_code == 401, without.text
            assert answer["source"] == "model", answer
            assert answer["degraded"] == [], answer
            assert "NOAUTH" in store[1], store
            assert key not in shown
            remarks.append("401 without, an answer with it; NOAUTH without")


def recommend(url: str, key: str | None = None, **body: Any) -> dict[str, Any]:
    """A recommendation."""
    headers = {} if key is None else {"X-API-Key": key}
    answer = httpx.post(f"{url}/recommend", json=body, headers=headers, timeout=30)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def long_batch(url: str) -> tuple[httpx.Response, float]:
    """A request of 50 rows with wide beams, and when it was answered."""
    rows = [{"history": EVENTS, "beam_width": 50, "deadline_ms": 60_000} for _ in range(50)]
    answer = httpx.post(f"{url}/recommend/batch", json={"requests": rows}, timeout=60)
    return answer, time.monotonic()


def until_busy(url: str) -> None:
    """Until rows wait for the model, or AssertionError."""
    for _ in range(1_000):
        text = httpx.get(f"{url}/metrics", timeout=10).text
        waiting = [line for line in text.splitlines() if line.startswith("stamp_queue_rows ")]
        if float(waiting[0].split()[1]) > 0:
            return
    raise AssertionError("the requests were answered before anything could be stopped")


def all_answered(asked: list[Future[tuple[httpx.Response, float]]], stopped_s: float) -> str:
    """That every row has its answer, and how many requests were in flight when the end began."""
    answers = [future.result() for future in asked]
    statuses = {row["status"] for answer, _ in answers for row in answer.json()["results"]}
    in_flight = sum(done_s > stopped_s for _, done_s in answers)
    assert {answer.status_code for answer, _ in answers} == {200}, answers
    assert statuses == {200}, statuses
    assert in_flight > 0
    return f"{in_flight} requests in flight, each row answered with 200"


def main() -> None:
    """Run the cycle, print its table, and with --record keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="demo-ml100k", help="what is trained and served")
    parser.add_argument("--prune", action="store_true", help="empty the engine's build cache first")
    parser.add_argument("--record", type=Path, metavar="DIR", help="write a record into a folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), options.recipe) as stack:
        cycle = Cycle(stack)
        cycle.run(prune=options.prune)
        versions = stack.run("docker", "version", "--format", "{{.Server.Version}}").strip()
        compose = stack.run("docker", "compose", "version", "--short").strip()
        commit = stack.run("git", "rev-parse", "--short=12", "HEAD").strip()
        sizes = [[image, f"{stack.image_mb(image):.0f}"] for image in IMAGES]
    tables: list[Titled] = [
        ("Steps", HEAD, cycle.rows),
        ("Pods of deploy/kubernetes as containers, recipe smoke", HEAD, pod_rows("smoke")),
        ("Images", ["image", "MB, base included"], sizes),
    ]
    show_tables(tables, [])
    if options.record is not None:
        record(
            options.record, tables, f"engine {versions}, compose {compose}", options.recipe, commit
        )


def record(folder: Path, tables: list[Titled], engine: str, recipe: str, commit: str) -> None:
    """Write the record of today's run; the commit is the one that was cloned."""
    found_in = environment(MODULE, sys.argv[1:])
    found_in["commit"] = commit
    path = record_path(folder, found_in, "compose")
    about = (
        f"{found_in['date']}, commit {found_in['commit']}, `{found_in['command']}`; "
        f"{found_in['cpu']}, {found_in['cores']} cores; {engine}; recipe {recipe}. "
        f"Load average at the end: {found_in['load_average']}."
    )
    titled = ["# docker-compose.yml from a fresh clone to a graceful end", about]
    write_report(
        path, {"environment": found_in, "engine": engine, "tables": tables}, titled, tables
    )


if __name__ == "__main__":
    main()
