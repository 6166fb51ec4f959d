"""The Dockerfile: what goes in, who it runs as, and the scripts that its containers start."""

import fnmatch
import http.server
import os
import re
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
TARGETS = {"runtime-cpu", "runtime-cuda", "train", "load"}


def stages() -> dict[str, list[str]]:
    """The instructions of each stage, lines that continue joined, comments left out."""
    lines = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in filter(None, lines):
        if line.startswith("FROM "):
            name = line.split(" AS ")[1]
            found[name] = []
        found[name].append(" ".join(line.split()))
    return found


def lineage(name: str) -> list[str]:
    """The instructions of a stage and of those it is made from, the first of all in front."""
    first, *rest = stages()[name]
    parent = first.split()[1]
    return [*(lineage(parent) if parent in stages() else []), first, *rest]


def last(name: str, instruction: str) -> str:
    """What the last such instruction of a stage or its ancestors says."""
    return [line for line in lineage(name) if line.startswith(f"{instruction} ")][-1].partition(
        " "
    )[2]


def test_the_targets_are_there_and_the_cpu_is_the_default() -> None:
    """The last stage is what `docker build .` makes."""
    assert stages().keys() >= TARGETS
    assert list(stages())[-1] == "runtime-cpu"


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_nobody_is_root_and_signals_arrive(target: str) -> None:
    """A number, which Kubernetes can check; and exec form, in which no shell keeps the signal."""
    assert last(target, "USER") == "10001:10001"
    assert last(target, "STOPSIGNAL") == "SIGTERM"
    assert last(target, "ENTRYPOINT").startswith('["')


@pytest.mark.parametrize("target", ["runtime-cpu", "runtime-cuda"])
def test_the_service_is_probed_without_a_shell(target: str) -> None:
    """By Python, since there is no curl; for life, as an engine restarts what is not healthy."""
    check = last(target, "HEALTHCHECK")

    assert check.endswith('CMD ["python", "/app/probe.py", "/health/live"]')
    assert last(target, "CMD") == '["serve"]'


def test_every_package_but_torch_is_held_to_its_hash() -> None:
    """Each lock is installed with --require-hashes, and nothing is named but torch."""
    installs = re.findall(r"pip --python \S+ install ([^\n&]+)", DOCKERFILE)
    torch = [words for words in installs if "torch==" in words]
    locked = [words for words in installs if words not in torch]

    assert len(torch) == 2
    assert all("--no-deps --require-hashes -r requirements/" in words for words in locked)


def test_torch_and_the_version_are_the_projects() -> None:
    """As in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert f"\nARG TORCH_VERSION={_torch_of(project['dependencies'])}\n" in DOCKERFILE
    assert f"\nARG VERSION={project['version']}\n" in DOCKERFILE


def _torch_of(dependencies: list[str]) -> str:
    (pin,) = (line for line in dependencies if line.startswith("torch=="))
    return pin.removeprefix("torch==")


def test_whatever_is_copied_exists_and_reaches_the_builder() -> None:
    """.dockerignore leaves everything out that it does not name."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    copied = [
        source
        for stage in stages().values()
        for line in stage
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]

    assert lines[1] == "*"
    assert copied
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert [
        source
        for source in copied
        if not any(fnmatch.fnmatch(source, pattern) for pattern in let_in)
    ] == []


@pytest.fixture
def port() -> Iterator[int]:
    """A server that answers /ok with 200 and everything else with 503."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ok" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "healthy"), [("/ok", True), ("/health/ready", False)])
def test_the_probe_asks_the_service_never_a_proxy(port: int, path: str, *, healthy: bool) -> None:
    """Exit code 0 for 200; a proxy in the environment is none of its business."""
    env = {"STAMP_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "probe.py", path],
        env=env, capture_output=True, check=False,
    )  # fmt: skip

    assert (done.returncode == 0) == healthy


def test_the_probe_fails_where_nothing_listens() -> None:
    """A process that is gone is not healthy."""
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "probe.py", "/ok"],
        env={"STAMP_PORT": "9"}, capture_output=True, check=False,
    )  # fmt: skip

    assert done.returncode != 0


def script(folder: Path, name: str, **variables: str) -> str:
    """Run one of our scripts as if the project were in `folder`, and return what it printed."""
    (folder / "scripts").mkdir(exist_ok=True)
    copy = folder / "scripts" / name
    copy.write_bytes((ROOT / "scripts" / name).read_bytes())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(copy)],  # noqa: S607  # whichever sh there is
        env={"PATH": path, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_a_bundle_that_is_there_is_not_trained_again(tmp_path: Path) -> None:
    """Its users' histories are put into the store, whose URL a file tells."""
    version = tmp_path / "bundles" / "mine" / "20260101"
    data = tmp_path / "runs" / "mine" / "data"
    version.mkdir(parents=True)
    data.mkdir(parents=True)
    (version / "manifest.json").touch()
    users = {"user_id": ["ann", "bob"], "item_ids": [["a"], ["b"]]}
    pl.DataFrame(users).write_parquet(data / "histories.parquet")
    url = tmp_path / "url"
    url.write_text(f"sqlite:///{tmp_path}/store\n", encoding="utf-8")

    printed = script(tmp_path, "demo.sh", RECIPE="mine.toml", STAMP_HISTORY_URL_FILE=str(url))

    assert "bundles/mine has a version already: nothing to train" in printed
    assert "2 users written, 0 kept" in printed


def test_a_bundle_without_a_run_is_served_as_it_is(tmp_path: Path) -> None:
    """Somebody brought it; there are no histories to import."""
    (tmp_path / "bundles" / "mine" / "1").mkdir(parents=True)
    (tmp_path / "bundles" / "mine" / "1" / "manifest.json").touch()

    assert "no histories to import" in script(tmp_path, "demo.sh", RECIPE="mine")


def test_secrets_are_random_and_stay(tmp_path: Path) -> None:
    """A folder for nobody else, files that a container's user can read, and no secret replaced."""
    script(tmp_path, "secrets.sh")
    folder = tmp_path / "secrets"
    first = {path.name: path.read_text(encoding="utf-8").strip() for path in folder.iterdir()}
    script(tmp_path, "secrets.sh")
    again = {path.name: path.read_text(encoding="utf-8").strip() for path in folder.iterdir()}

    assert again == first
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    assert first["history_url"] == f"redis://:{first['valkey_password']}@valkey:6379/0"
    assert len({first["api_keys"], first["valkey_password"], first["grafana_password"]}) == 3
    assert re.fullmatch(r"[0-9a-f]{48}", first["api_keys"])
