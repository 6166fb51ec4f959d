"""The service as a Ray Serve application: `serve deploy deploy/ray/serve.yaml` imports `build`.

One deployment is the whole app: queue, histories and model are in the replica, and no request goes
from one replica to another. Needs the extra `ray`, which nothing else here does.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve

from service.ray_replica import build_replica, follow, until_ready

MAX_ONGOING_REQUESTS = 384
"""In one replica; above STAMP_MAX_QUEUE_ROWS and a batch, so that its own 429 comes first."""
MAX_QUEUED_REQUESTS = 128
"""Behind those; the next one gets Ray's 503."""
DRAIN_S = 30.0


@serve.deployment(
    max_ongoing_requests=MAX_ONGOING_REQUESTS,
    max_queued_requests=MAX_QUEUED_REQUESTS,
    graceful_shutdown_timeout_s=DRAIN_S,
)
@serve.ingress()
class Recommender:
    """A replica: the app of `python -m service serve`, and what Ray asks of it."""

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self._flags = flags

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The app; Ray calls this in the replica and runs the app's lifespan."""
        self._service = build_replica(self._flags)
        return self._service

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Let the versions serve that `user_config` names: the document of serving.json."""
        await follow(self._service, user_config)

    async def check_health(self) -> None:
        """Raise when the replica is to be replaced; the first call waits for the model."""
        await until_ready(self._service)


def build(flags: dict[str, Any]) -> serve.Application:
    """The application.

    Args:
        flags: `args` of the configuration: settings by name, e.g. {"bundle_dir": "/srv/bundles"}.
    """
    return Recommender.bind(flags)  # type: ignore[attr-defined]  # a deployment has it
