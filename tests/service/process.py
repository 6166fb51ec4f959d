"""A service in a process of its own, read line by line and steered by its standard input."""

import json
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import httpx

from tests.service.fakes import PATIENCE_S

ROOT = Path(__file__).parents[2]
START_S = 60.0


class Process:
    """A running service, read line by line."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={"PATH": "", "STAMP_LOG_LEVEL": "info", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: Queue[dict[str, Any]] = Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._callers = ThreadPoolExecutor(4)
        self.url = ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def until(self, event: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next log line of this kind."""
        while (line := self.lines.get(timeout=timeout_s))["event"] != event:
            pass
        return line

    def until_ready(self) -> dict[str, Any]:
        """The line that tells the address."""
        line = self.until("ready", START_S)
        self.url = line["url"]
        return line

    def steer(self, word: str) -> None:
        """Let the fake engine hold or go."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        self.until("steered")

    def recommend(self) -> Future[httpx.Response]:
        """The response of a request that is on its way."""
        body = {"history": ["item-1"]}
        post = self._callers.submit
        return post(httpx.post, f"{self.url}/recommend", json=body, timeout=START_S)

    def ready(self) -> httpx.Response:
        """What a probe sees."""
        return httpx.get(f"{self.url}/health/ready", timeout=PATIENCE_S)

    def exit_code(self) -> int:
        """How the process ended."""
        return self.process.wait(PATIENCE_S)

    def stop(self) -> str:
        """Make sure it is gone; what it wrote to stderr."""
        self.process.kill()
        _, stderr = self.process.communicate(timeout=PATIENCE_S)
        self._callers.shutdown(wait=True)
        return stderr
