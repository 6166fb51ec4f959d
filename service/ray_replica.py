"""What a replica under Ray Serve does besides answering: come up, follow the plan, tell its health.

Nothing of Ray is imported here; see ray_serve.py.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI
from pydantic import ValidationError

from model.errors import ModelError
from model.memory import keep_freed_memory
from service.app import create_app
from service.errors import ServiceError, StartupError
from service.lifecycle import Lifecycle
from service.logs import configure_logging
from service.models import Models
from service.plan import Plan
from service.settings import Settings, load_settings

START_CHECK_S = 0.05

log = structlog.get_logger()


def take_over(settings: Settings) -> None:
    """Set up a process for the service alone: its log lines, its memory."""
    configure_logging(settings.log_level, settings.log_format)
    keep_freed_memory()


def build_replica(
    flags: Mapping[str, Any], take_over: Callable[[Settings], None] = take_over
) -> FastAPI:
    """The service's app as a replica runs it, or StartupError in one line.

    Args:
        flags: settings by name, as in Settings; STAMP_* variables of the process count, too.
        take_over: sets up the process.
    """
    settings = load_settings(**flags)
    if settings.history_url == "memory://":
        raise StartupError("memory:// would give every replica histories of its own; use Redis")
    if settings.metrics_port is not None:
        raise StartupError("STAMP_METRICS_PORT: Ray opens the ports; read /metrics of each replica")
    take_over(settings)
    return create_app(settings)


async def until_ready(app: FastAPI) -> None:
    """Return when the model serves; StartupError with the reason when it never will."""
    lifecycle: Lifecycle = app.state.lifecycle
    while lifecycle.state in {"loading", "warming"}:  # noqa: ASYNC110  # happens once a replica
        await asyncio.sleep(START_CHECK_S)
    check_health(app)


def check_health(app: FastAPI) -> None:
    """Raise StartupError, so that Ray replaces the replica, when the model could not be loaded."""
    failure = app.state.lifecycle.failure
    if failure is not None:
        raise StartupError(" ".join(str(failure).split())) from failure


async def follow(app: FastAPI, document: Mapping[str, Any]) -> bool:
    """Carry out a plan; False, and a line in the log, if what served before goes on serving.

    It does not raise: Ray ends replicas that do, and one bad version would end them all.

    Args:
        app: of `build_replica`.
        document: what serving.json may hold.
    """
    await until_ready(app)
    models: Models = app.state.models
    try:
        await models.follow(Plan.model_validate(document))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        reason = f"user_config: {where}: {first['msg']}"
    except (ModelError, ServiceError) as error:
        reason = error.detail if isinstance(error, ServiceError) else str(error)
    else:
        return True
    log.error("plan_not_applied", error=reason)
    return False
