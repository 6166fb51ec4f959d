"""What the pods of deploy/kubernetes run, run: part of `make containers`, after its images.

Each pod's container gets the image, command, settings, secrets, config maps, user and limits of its
manifest. What a cluster adds (scheduling, policies, scaling) is not seen here.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.reporting import Rows, show_tables
from tests.deploy import manifests
from tests.deploy.pods import Pods, docker
from tests.deploy.steps import HEAD, Steps


class Cycle(Steps):
    """The steps, in order."""

    def __init__(self, pods: Pods) -> None:
        super().__init__()
        self.pods = pods
        self.key = ""

    def run(self) -> None:
        """Everything."""
        self.store()
        self.train()
        self.service_links()
        self.serve()
        self.end()

    def store(self) -> None:
        """The store's command and probes hold, and without the password nobody comes in."""
        with self.step("pod `valkey`: starts, its probe holds") as remarks:
            container = self.pods.start("valkey")
            self.pods.probe(container, "valkey")
            assert "NOAUTH" in docker("exec", container, "valkey-cli", "ping")
            remarks.append("NOAUTH without a password")

    def train(self) -> None:
        """The job leaves a bundle in the volume and histories in the store."""
        with self.step("pod `train`: trains and imports") as remarks:
            code, printed = self.pods.wait(self.pods.start("train"))
            assert code == 0, printed
            remarks.append(printed.splitlines()[-1])
        with self.step("pod `stamp`: the container that waits for a bundle") as remarks:
            code, printed = self.pods.wait(self.pods.start("stamp", init=True))
            assert code == 0, printed
            remarks.append(f"found {Path(printed).parent.name}")

    def service_links(self) -> None:
        """With the variables that Kubernetes would make of the Service it refuses to start."""
        with self.step("pod `stamp` if service links were not off") as remarks:
            links = {"STAMP_SERVICE_HOST": "10.0.0.1", "STAMP_PORT": "tcp://10.0.0.1:80"}
            code, printed = self.pods.wait(self.pods.start("stamp", alias="links", more=links))
            assert code == 2, printed
            remarks.append(printed.splitlines()[-1])

    def serve(self) -> None:
        """Ready, closed to strangers, open to the key, metrics on their own port."""
        with self.step("pod `stamp`: until it is ready"):
            container = self.pods.start("stamp", publish=True)
            until_ready(self.pods.url)
        with self.step("a recommendation by key; metrics") as remarks:
            secret = self.pods.folder / "stamp-secrets" / "api_keys"
            self.key = secret.read_text(encoding="utf-8").strip()
            without = httpx.post(f"{self.pods.url}/recommend", json={"user_id": "196"}, timeout=30)
            answer = self.recommend().json()
            metrics = httpx.get(f"{self.pods.url}/metrics", timeout=10)
            port = manifests.settings()["STAMP_METRICS_PORT"]
            probe = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/metrics').status)"
            assert without.status_code == 401, without.text
            assert (answer["source"], answer["degraded"]) == ("model", []), answer
            assert metrics.status_code == 404, metrics.text
            assert docker("exec", container, "python", "-c", probe) == "200"
            remarks.append("401 without a key, the model's answer with it; metrics on 9090 alone")

    def end(self) -> None:
        """Told to end it is not ready and still answers; then it ends with 0, by itself."""
        grace_s = self.pods.templates["stamp"]["spec"]["terminationGracePeriodSeconds"]
        container = f"{self.pods.prefix}-stamp"
        with self.step("pod `stamp`: the end") as remarks:
            stop = subprocess.Popen(["docker", "stop", "--time", str(grace_s), container],  # noqa: S607
                                    stdout=subprocess.DEVNULL)  # fmt: skip
            until_draining(self.pods.url)
            answer = self.recommend()
            assert answer.status_code == 200, answer.text
            assert stop.wait(timeout=grace_s) == 0
            code = docker("inspect", "--format", "{{.State.ExitCode}}", container)
            assert code == "0", docker("logs", container)
            remarks.append("not ready, yet answering; exit code 0")

    def recommend(self) -> httpx.Response:
        """A recommendation for a user of the demo."""
        headers = {"X-API-Key": self.key}
        body = {"user_id": "196", "limit": 3}
        return httpx.post(f"{self.pods.url}/recommend", json=body, headers=headers, timeout=30)


def until_ready(url: str) -> None:
    """Until the service is ready, or AssertionError after five minutes."""
    for _ in range(300):
        if status(url) == 200:
            return
        time.sleep(1)
    raise AssertionError("the service did not become ready")


def until_draining(url: str) -> None:
    """Until it is not ready any more, or AssertionError."""
    for _ in range(300):
        if status(url) == 503:
            return
        time.sleep(0.05)
    raise AssertionError("the service was never not ready")


def status(url: str) -> int:
    """What readiness answers; 0 while nothing does."""
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code
    except httpx.TransportError:
        return 0


def pod_rows(recipe: str) -> Rows:
    """Run the cycle; its table's rows."""
    with tempfile.TemporaryDirectory() as folder, Pods(Path(folder), recipe) as pods:
        cycle = Cycle(pods)
        cycle.run()
    return cycle.rows


def main() -> None:
    """Run the cycle and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="smoke", help="what the job trains")
    options = parser.parse_args()
    show_tables([("Pods", HEAD, pod_rows(options.recipe))], [])


if __name__ == "__main__":
    main()
