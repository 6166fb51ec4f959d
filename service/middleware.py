"""Pure ASGI middleware: counts and log around everything, then the limit on the body."""

import asyncio
from dataclasses import dataclass

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLargeError, ModelFailedError, NotReadyError
from service.logs import RequestRecord, record_of
from service.metrics import Metrics
from service.problems import problem_response

METRICS_PATH = "/metrics"
PROBE_PATHS = ("/health/", METRICS_PATH)

log = structlog.get_logger()


@dataclass(frozen=True)
class RequestMetrics:
    """Count each request, by the record that RequestLog, inside of this, makes of it."""

    app: ASGIApp
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass on what is none."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        live = self.metrics.live
        live.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            live.in_flight -= 1
            record = record_of(scope)
            bug = ModelFailedError.code if record.status == 500 else None
            self.metrics.request_done(
                _route_of(scope),
                record.method,
                record.status,
                record.elapsed_ms() / 1000,
                record.fields.get("code", bug),
            )


@dataclass(frozen=True)
class RequestLog:
    """Give each request an id and a record; add the record's headers and write its log line.

    Probes of health and metrics that succeed are not logged. A request that is cancelled, because
    the drain took too long, is still answered.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass on what is none."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = RequestRecord.begin(scope)
        started = False
        structlog.contextvars.bind_contextvars(request_id=record.request_id)

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                record.status = message["status"]
                message["headers"] = record.headers(message["headers"])
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            if not started:
                stopping = NotReadyError("The service has stopped.", reason="draining")
                await problem_response(scope, stopping)(scope, receive, send_with_headers)
            raise
        finally:
            if not (record.path.startswith(PROBE_PATHS) and record.status < 400):
                log.info("request", **record.line())


@dataclass(frozen=True)
class MetricsPort:
    """Keep the metrics on a port of their own, and that port to them and to health probes."""

    app: ASGIApp
    port: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass on what is none."""
        if scope["type"] == "http" and not self._belongs(scope):
            not_here = HTTPException(404, "Not Found")
            await problem_response(scope, not_here)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _belongs(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if path == METRICS_PATH:
            return bool(scope["server"][1] == self.port)
        return scope["server"][1] != self.port or path.startswith(PROBE_PATHS)


@dataclass(frozen=True)
class BodyLimit:
    """Refuse a body longer than max_body_bytes: before any of it is read if its length is declared.

    FastAPI's own `max_body_size` does the same but answers text/plain when the length is declared.
    The connection is closed, so that the rest need not be read.
    """

    app: ASGIApp
    max_body_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass on what is none."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _content_length(scope) > self.max_body_bytes:
            await problem_response(scope, self._too_large())(scope, receive, send)
            return
        num_bytes = 0

        async def receive_within_limit() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self.max_body_bytes:
                raise self._too_large()
            return message

        await self.app(scope, receive_within_limit, send)

    def _too_large(self) -> BodyTooLargeError:
        error = BodyTooLargeError(f"The body is longer than {self.max_body_bytes} bytes.")
        error.headers = {"Connection": "close"}
        return error


def _route_of(scope: Scope) -> str:
    """The template of the request's path: few values, whatever callers send."""
    if "route" in scope:
        return str(scope["route"].path)
    return "page" if "endpoint" in scope else "none"


def _content_length(scope: Scope) -> int:
    """The declared length; 0 when none is, or none that is a number (the server refuses those)."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(declared[:19]) if declared.isdigit() else 0  # 19 digits are more than any limit
