"""A running docker-compose.yml: its own project, ports and clone, gone at the end."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
FILES = {
    "plain": ("docker-compose.yml",),
    "secrets": ("docker-compose.yml", "deploy/compose.secrets.yml"),
}
PORTS = ("PORT", "GPU_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")


class Stack:
    """The services of a clone of this repository, made in `folder` from the last commit.

    Every command runs in the clone; a command that fails raises CalledProcessError, after what it
    printed. Leaving the block takes down containers, networks and volumes; images stay.
    """

    def __init__(self, folder: Path, recipe: str) -> None:
        self.clone = folder / "clone"
        self.files = "plain"
        free = {name: str(free_port()) for name in PORTS}
        self.env = {**os.environ, **free, "RECIPE": recipe}
        self.project = f"stamp-check-{os.getpid()}"
        self.url = f"http://127.0.0.1:{free['PORT']}"

    def __enter__(self) -> Self:
        """Clone; nothing runs yet."""
        _run(["git", "clone", "--quiet", str(ROOT), str(self.clone)], env=self.env)
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        """Leave nothing behind but images; after a failure, show what the containers said."""
        if failure is not None:
            sys.stderr.write(self.compose("logs", "--no-color", "--tail", "40"))
        self.compose("down", "--volumes", "--timeout", "60")
        shutil.rmtree(self.clone)

    def compose(self, *words: str) -> str:
        """`docker compose` with these words, and what it printed."""
        return self.run(*self._command(), *words)

    def exit_code(self, *words: str) -> int:
        """How `docker compose` with these words ended; what it printed is not kept."""
        command = [*self._command(), *words]
        done = subprocess.run(
            command, cwd=self.clone, env=self.env, stdout=subprocess.DEVNULL, check=False
        )
        return done.returncode

    def run(self, *words: str) -> str:
        """Any command in the clone."""
        return _run(list(words), cwd=self.clone, env=self.env)

    def attempt(self, service: str, script: str) -> tuple[int, str]:
        """The exit code of a shell script in a running container, and what it printed."""
        command = [*self._command(), "exec", "-T", service, "sh", "-c", script]
        done = subprocess.run(
            command, cwd=self.clone, env=self.env, capture_output=True, text=True, check=False
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    def state(self, service: str) -> dict[str, Any]:
        """How a service's container is or ended, as the engine tells it."""
        container = self.compose("ps", "--all", "--quiet", service).strip()
        state: dict[str, Any] = json.loads(
            self.run("docker", "inspect", "--format", "{{json .State}}", container)
        )
        return state

    def read(self, volume: str, file: str) -> str:
        """A text file of one of the project's volumes."""
        mount = f"{self.project}_{volume}:/volume:ro"
        cat = ("--entrypoint", "cat", "stamp-recommender:load", f"/volume/{file}")
        return self.run("docker", "run", "--rm", "--network", "none", "--volume", mount, *cat)

    def image_mb(self, image: str) -> float:
        """The size of an image on disk, shared layers included."""
        text = self.run("docker", "image", "inspect", "--format", "{{.Size}}", image)
        return int(text) / 1e6

    def _command(self) -> list[str]:
        files = [word for file in FILES[self.files] for word in ("--file", file)]
        return ["docker", "compose", "--project-name", self.project, *files]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What a command printed on standard output; its errors go to ours."""
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout
