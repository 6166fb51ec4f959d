"""The app on a socket: uvicorn with our way to stop, and the exit code."""

import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn
from urllib.parse import quote

import structlog
import uvicorn
from fastapi import FastAPI
from pydantic_core import to_json
from rich.console import Console

from model.engine import Engine, Query
from service import __version__
from service.app import create_app
from service.errors import StartupError
from service.lifecycle import Lifecycle
from service.settings import Settings

FAILED = 2
FORCED = 1
KEEP_ALIVE_S = 75  # above the 60 s after which load balancers drop idle connections
EXAMPLE_ITEMS = 3

log = structlog.get_logger()


class Server(uvicorn.Server):
    """A uvicorn server that is not ready before it stops listening, and that then exits with 0.

    The first signal begins the drain, the second one ends it at once.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_delay_s: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_delay_s = drain_delay_s
        self._draining_since_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's
        """Note the signal; `on_tick` acts on it."""
        if self._draining_since_s is not None:
            self.should_exit = self.force_exit = True
            return
        log.info("draining", signal=signal.Signals(sig).name)
        self._lifecycle.drain()
        self._draining_since_s = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop listening; asked ten times a second."""
        since_s = self._draining_since_s
        drained = since_s is not None and time.monotonic() - since_s >= self._drain_delay_s
        if drained or self._lifecycle.state == "failed":
            self.should_exit = True
        return await super().on_tick(counter)


def run(
    settings: Settings,
    example_user: str | None,
    build_app: Callable[..., FastAPI] = create_app,
) -> int:
    """Serve until a signal, and return the exit code; StartupError when it cannot even begin."""
    listener = listen(settings.host, settings.port)
    port = settings.metrics_port
    listeners = [listener, *([] if port is None else [listen(settings.host, port)])]
    url = _url(settings.host, listener.getsockname()[1])

    def announce(engine: Engine) -> None:
        version = f"{engine.manifest.name}/{engine.manifest.version}"
        example = curl(url, engine, example_user, with_key=settings.has_keys)
        log.info("ready", url=url, model=version, example=example)
        print_welcome(url, version, example, with_page=settings.page, user=example_user)

    app = build_app(settings, on_ready=announce)
    lifecycle: Lifecycle = app.state.lifecycle
    config = uvicorn_config(app, settings.drain_timeout_s)
    server = Server(config, lifecycle, settings.drain_delay_s)
    server.run(sockets=listeners)
    if lifecycle.failure is not None:
        raise StartupError(" ".join(str(lifecycle.failure).split())) from lifecycle.failure
    return FORCED if server.force_exit else 0


def uvicorn_config(app: FastAPI, drain_timeout_s: int) -> uvicorn.Config:
    """How an app is served."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        workers=1,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_timeout_s,
    )


def leave(code: int) -> NoReturn:
    """End the process, whatever the model thread is doing: it may be loading, or stuck."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, or StartupError in one line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # socket repeats the address behind it
        raise StartupError(f"cannot listen on {host}:{port}: {reason}") from error


def curl(url: str, engine: Engine, example_user: str | None, *, with_key: bool) -> str:
    """A command that works: for this user, or for someone who liked the most popular items."""
    catalog = engine.catalog
    popular = [catalog.item_ids[item] for item in engine.popular(Query([], limit=EXAMPLE_ITEMS))]
    who = {"history": popular} if example_user is None else {"user_id": example_user}
    body = shlex.quote(to_json({**who, "limit": 5}).decode())
    key = ' -H "X-API-Key: $KEY"' if with_key else ""
    return f"curl -s {url}/recommend -H 'Content-Type: application/json' -d {body}{key}"


def print_welcome(
    url: str, version: str, example: str, *, with_page: bool, user: str | None
) -> None:
    """Tell the person at the terminal where the service is and how to try it."""
    query = "" if user is None else f"?user={quote(user, safe='')}"
    page = f"\nOr in a browser: {url}/{query}\n" if with_page else ""
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"\nSTAMP Recommender {__version__} serves {version} at {url} (documentation: {url}/docs)"
        f"\nTry it:\n\n  {example}\n{page}"
    )


def _url(host: str, port: int) -> str:
    """Where a client on this machine finds the service."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # recognised, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
