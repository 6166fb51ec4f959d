"""A Ray cluster on this machine: nodes on loopback addresses, one processor to give away each."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.process_tree import ROOT, Guarded

HEAD, WORKER = "127.0.0.2", "127.0.0.3"  # Ray takes 127.0.0.1 for the machine's outer address
PATIENCE_S = 120.0
SERVING = {"RUNNING", "UPDATING"}  # while a replica loads a version, it answers by another
APPLICATIONS = "/api/serve/applications/"
RAY = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1")

Json = dict[str, Any]


@dataclass
class Cluster:
    """The nodes of one cluster; `running` makes it.

    Args:
        folder: for sockets and Ray's logs, a short path; its own logs go beside it.
    """

    folder: Path
    token: str = field(default_factory=lambda: token_hex(16))
    _nodes: dict[str, Guarded] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gcs_port, self.api_port, self.port, self.stats_port, self.metrics_port = free_ports(5)

    @property
    def url(self) -> str:
        """Where the ingress listens."""
        return f"http://{HEAD}:{self.port}"

    def start_node(self, address: str) -> None:
        """Start the head, or a worker; returns at once."""
        options = [f"--node-ip-address={address}"]
        if address != HEAD:
            options += [f"--address={HEAD}:{self.gcs_port}"]
        else:
            options += ["--head", f"--port={self.gcs_port}", f"--temp-dir={self.folder}"]
            options += [f"--dashboard-host={HEAD}", f"--dashboard-port={self.api_port}"]
        variables = {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.metrics_port),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.stats_port),
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with (self.folder.parent / f"{address}.log").open("a") as log:
            self._nodes[address] = Guarded([*RAY, *options], variables, log)

    def kill_node(self, address: str) -> None:
        """End a node at once and whole, replicas included, as if it lost its power."""
        self._nodes.pop(address).kill()

    def cpu_s(self) -> float:
        """Processor time that all nodes have used, in seconds."""
        return sum(node.cpu_s() for node in self._nodes.values())

    def stop(self) -> None:
        """End what runs."""
        for address in list(self._nodes):
            self.kill_node(address)

    def deploy(self, config: Json) -> None:
        """Ask for applications, as `serve deploy` does."""
        status, answer = self._call("PUT", json.dumps(config))
        if status != 200:
            raise RuntimeError(f"deploy: {status}: {answer}")

    def replicas(self) -> list[Json]:
        """The replicas that answer, each with node_ip and pid."""
        status, answer = self._call("GET")
        if status != 200:
            return []
        applications = json.loads(answer)["applications"].values()
        deployments = [each for one in applications for each in one["deployments"].values()]
        replicas = [each for one in deployments for each in one["replicas"]]
        return [each for each in replicas if each["state"] in SERVING]

    def status(self) -> str:
        """What Ray says of the applications, in one line."""
        applications = json.loads(self._call("GET")[1])["applications"]
        said = {name: (one["status"], one["message"]) for name, one in applications.items()}
        return json.dumps(said)

    def until_api(self) -> None:
        """Wait for the head."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            with suppress(OSError):
                if self._call("GET")[0] == 200:
                    return
            time.sleep(0.2)
        raise TimeoutError("the cluster's API does not answer")

    def until_replicas(self, number: int) -> None:
        """Wait until so many replicas answer; TimeoutError with Ray's words."""
        end_s = time.monotonic() + PATIENCE_S
        while len(self.replicas()) != number:
            if time.monotonic() > end_s:
                raise TimeoutError(self.status())
            time.sleep(0.2)

    def _call(self, method: str, body: str | None = None) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        with closing(HTTPConnection(HEAD, self.api_port, timeout=PATIENCE_S)) as connection:
            connection.request(method, APPLICATIONS, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()


@contextmanager
def running(*addresses: str) -> Iterator[Cluster]:
    """A cluster of nodes at these addresses, for as long as the block runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="stamp-")))
        cluster = Cluster(folder / "ray")
        stack.callback(cluster.stop)
        for address in addresses:
            cluster.start_node(address)
        cluster.until_api()
        yield cluster


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(number)]
        for each in sockets:
            each.bind(("0.0.0.0", 0))  # noqa: S104  # on every address
        return [each.getsockname()[1] for each in sockets]
