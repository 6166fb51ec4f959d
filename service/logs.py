"""One JSON line per request, with its request id; every other line in the same form."""

import json
import logging
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Literal

import structlog
from pydantic_core import to_json
from starlette.types import Scope
from structlog.typing import Processor

ACCEPTED_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")
MAX_PATH_CHARS = 256
USERS_PATH = re.compile(r"/users/.+", flags=re.DOTALL)
STRICT_POLICY = b"default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    b"default-src 'self'; img-src 'self' data: https:; object-src 'none'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
DOCS_POLICY = (  # Swagger UI styles its elements one by one
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]


@dataclass(slots=True)
class RequestRecord:
    """What one request's log line and response headers tell; filled in on its way.

    `started_s` is on time.perf_counter's clock; `stages_ms` maps queue, history, model to a time.
    """

    request_id: str
    method: str
    path: str
    started_s: float
    status: int = 500
    stages_ms: dict[str, float] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls, scope: Scope) -> "RequestRecord":
        """A record for the request, left in its scope for `record_of`."""
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        accepted = ACCEPTED_REQUEST_ID.fullmatch(sent)
        record = cls(
            request_id=sent.decode("ascii") if accepted else token_hex(16),
            method=scope["method"],
            path=USERS_PATH.sub("/users/...", scope["path"][:MAX_PATH_CHARS]),
            started_s=time.perf_counter(),
        )
        scope.setdefault("state", {})["record"] = record
        return record

    def elapsed_ms(self) -> float:
        """Milliseconds since the request arrived."""
        return (time.perf_counter() - self.started_s) * 1000

    def headers(self, own: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The response's own headers, and those that every response carries.

        A page may load what is ours; whatever is no page, if a browser shows it, nothing.
        """
        of_page = any(n == b"content-type" and v.startswith(b"text/html") for n, v in own)
        page_policy = DOCS_POLICY if self.path.startswith("/docs") else PAGE_POLICY
        stages = {**self.stages_ms, "total": self.elapsed_ms()}
        timing = ", ".join(f"{stage};dur={ms:.2f}" for stage, ms in stages.items())
        return [
            *own,
            (b"content-security-policy", page_policy if of_page else STRICT_POLICY),
            (b"x-request-id", self.request_id.encode()),
            (b"server-timing", timing.encode()),
            *SAFE_HEADERS,
        ]

    def line(self) -> dict[str, Any]:
        """The fields of the request's log line; the request id comes from the context."""
        stages = {f"{stage}_ms": round(ms, 3) for stage, ms in self.stages_ms.items()}
        return {
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "total_ms": round(self.elapsed_ms(), 3),
            **stages,
            **self.fields,
        }


def record_of(scope: Scope) -> RequestRecord:
    """The record that `RequestRecord.begin` left in the request's scope."""
    record = scope["state"]["record"]
    assert isinstance(record, RequestRecord)
    return record


def configure_logging(level: str, form: Literal["json", "console"]) -> None:
    """Write structlog's lines and those of libraries to stdout, in the same form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor] = [structlog.dev.ConsoleRenderer()]
    if form == "json":
        as_text = structlog.processors.format_exc_info
        renderer = [as_text, structlog.processors.JSONRenderer(_to_json)]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))


class _Lines:
    """Writes lines to stdout, unless whoever read them is gone: serving goes on."""

    def __init__(self, *_: object) -> None:
        pass

    def write(self, line: str) -> None:
        """Write one line."""
        with suppress(OSError, ValueError):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    debug = info = warning = error = write


def _to_json(event: dict[str, Any], **_: object) -> str:
    """The event as one line of JSON, fast if it can be, but always."""
    try:
        return to_json(event, fallback=str).decode()
    except ValueError:  # text that is not valid Unicode
        return json.dumps(event, default=str)
