"""A URL of each kind of store, over servers that live as long as the tests run."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.service.history.servers import DEBIAN, Server, running, running_cluster


class Clock:
    """A time that only moves when told to."""

    now_s = 1_000_000.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """The time by which a store forgets."""
    return Clock()


@pytest.fixture(scope="session")
def debian() -> Iterator[Server]:
    """A Redis as Debian builds it, where there is one."""
    if DEBIAN is None:
        pytest.skip("no redis-server on this machine")
    with running(DEBIAN) as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[list[Server]]:
    """Three Valkeys that share the slots."""
    with running_cluster() as nodes:
        yield nodes


@pytest.fixture
def memory_url() -> str:
    """Nothing but memory."""
    return "memory://"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path}/histories.sqlite3"


@pytest.fixture
def valkey_url(valkey: Server) -> str:
    """A prefix that nobody used."""
    return f"{valkey.url}?prefix={uuid4().hex}"


@pytest.fixture
def debian_url(debian: Server) -> str:
    """A prefix that nobody used."""
    return f"{debian.url}?prefix={uuid4().hex}"


@pytest.fixture
def cluster_url(cluster: list[Server]) -> str:
    """A prefix that nobody used; two nodes are named, the third is found."""
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster[:2])
    return f"redis+cluster://{hosts}?prefix={uuid4().hex}"
