"""OpenTelemetry, as FastAPI brings it along: traces and HTTP metrics, off unless asked for."""

from collections.abc import MutableMapping
from importlib.util import find_spec
from typing import Any

from fastapi.telemetry import TelemetryConfig

from service.errors import StartupError
from service.settings import Settings

PROBES = ("/health/", "/metrics")


def telemetry(settings: Settings) -> TelemetryConfig:
    """What FastAPI is to record, or StartupError where the SDK is missing.

    The exporter is set up by OTEL_* variables. FastAPI's logs stay off, for they hold what callers
    sent; so do its spans of single operations, which cost more than the request itself.
    """
    if settings.otel and find_spec("opentelemetry.sdk") is None:
        raise StartupError("STAMP_OTEL needs more: pip install 'fastapi[opentelemetry]'")
    return {
        "tracing": settings.otel,
        "metrics": settings.otel,
        "logs": False,
        "operation_spans": False,
        "auto_configure": settings.otel,
        "exclude": _is_probe,
    }


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    return bool(scope["path"].startswith(PROBES))
