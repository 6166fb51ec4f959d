"""The middleware around the endpoints, in its order."""

from fastapi import FastAPI

from service.api_keys import ApiKeyGate, ApiKeys
from service.metrics import Metrics
from service.middleware import BodyLimit, MetricsPort, RequestLog, RequestMetrics
from service.rate_limit import Limiter, RateLimit
from service.settings import Settings


def install_middleware(
    app: FastAPI, settings: Settings, metrics: Metrics, limiter: Limiter | None
) -> None:
    """Count, log, then refuse: wrong port, long body, no key, over the limit; or StartupError.

    What is cheap to find out comes first. The last one added is the first one asked.
    """
    if limiter is not None:
        app.add_middleware(RateLimit, limiter=limiter, public_docs=settings.public_docs)
    keys = ApiKeys.load(settings.api_keys, settings.api_keys_file)
    if keys.digests:
        app.add_middleware(ApiKeyGate, keys=keys, public_docs=settings.public_docs)
    app.add_middleware(BodyLimit, max_body_bytes=settings.max_body_bytes)
    if settings.metrics_port is not None:
        app.add_middleware(MetricsPort, port=settings.metrics_port)
    app.add_middleware(RequestLog)
    app.add_middleware(RequestMetrics, metrics=metrics)
