"""Endpoints: parse, call, answer."""

import asyncio
import inspect
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import PlainTextResponse, Response

from service import __version__
from service.disconnect import CancelledOnDisconnect
from service.errors import (
    BodyTooLargeError,
    DeadlineExceededError,
    InvalidJsonError,
    InvalidRequestError,
    ModelFailedError,
    ModelNotLoadedError,
    NotReadyError,
    OverloadedError,
    ServiceError,
    UnsupportedMediaTypeError,
)
from service.lifecycle import Lifecycle
from service.logs import record_of
from service.models import Models
from service.problems import problem_of
from service.schemas import (
    MAX_DEADLINE_MS,
    MAX_LIMIT,
    BatchRequest,
    BatchResponse,
    BatchResult,
    Health,
    Info,
    Limits,
    ModelInfo,
    Problem,
    RecommendRequest,
    RecommendResponse,
)
from service.settings import Settings

RETRY_AFTER_S = 2.0
DETAILS = {
    "loading": "The model is being loaded.",
    "warming": "The model is being warmed up.",
    "draining": "The service is stopping.",
    "stalled": "A batch has been running for too long.",
    "failed": "The model could not be loaded.",
}


def problems(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says about an endpoint's failures; those of one status share an entry."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        text = f"`{error.code}`: {inspect.getdoc(error)}"
        entry = responses.setdefault(error.status, {"model": Problem, "description": ""})
        entry["description"] = f"{entry['description']} {text}".strip()
    return responses


router = APIRouter(redirect_slashes=False)


# Dependencies are coroutines because FastAPI runs plain functions in a thread, at 100 us each.


async def lifecycle_of(request: Request) -> Lifecycle:
    """Where the service is between start and end."""
    lifecycle = request.app.state.lifecycle
    assert isinstance(lifecycle, Lifecycle)
    return lifecycle


LifecycleDep = Annotated[Lifecycle, Depends(lifecycle_of)]


async def models_of(request: Request) -> Models:
    """The models, or NotReadyError as long as none serves."""
    models: Models | None = request.app.state.models
    if models is None:
        raise _not_ready(request.app.state.lifecycle.state)
    return models


async def settings_of(request: Request) -> Settings:
    """The settings the service was started with."""
    settings = request.app.state.settings
    assert isinstance(settings, Settings)
    return settings


ModelsDep = Annotated[Models, Depends(models_of)]
SettingsDep = Annotated[Settings, Depends(settings_of)]
PinnedVersion = Annotated[
    str | None,
    Header(
        alias="X-Model-Version",
        min_length=1,
        max_length=256,
        description="The loaded version that must answer, whoever asks; for tests.",
    ),
]


@router.post(
    "/recommend",
    response_model_exclude_unset=True,
    responses=problems(
        InvalidJsonError,
        BodyTooLargeError,
        UnsupportedMediaTypeError,
        ModelNotLoadedError,
        InvalidRequestError,
        OverloadedError,
        ModelFailedError,
        NotReadyError,
        DeadlineExceededError,
    ),
)
async def recommend(
    body: RecommendRequest, models: ModelsDep, request: Request, pinned: PinnedVersion = None
) -> RecommendResponse:
    """Return the items this user is most likely to want next, best first."""
    record = record_of(request.scope)
    async with CancelledOnDisconnect(request.receive):
        response, outcome = await models.recommend(body, arrived_s=record.started_s, pinned=pinned)
    record.stages_ms = {
        "queue": outcome.queue_ms,
        "history": outcome.history_ms,
        "model": outcome.model_ms,
    }
    record.fields |= {
        "version": response.model.version,
        "batch_rows": outcome.batch_rows,
        "items": len(response.items),
        "source": response.source,
        "degraded": response.degraded,
        "recommendation_id": response.recommendation_id,
    }
    return response


@router.post(
    "/recommend/batch",
    response_model_exclude_unset=True,
    responses=problems(
        InvalidJsonError,
        BodyTooLargeError,
        UnsupportedMediaTypeError,
        InvalidRequestError,
        ModelFailedError,
        NotReadyError,
    ),
)
async def recommend_batch(
    body: BatchRequest, models: ModelsDep, request: Request, pinned: PinnedVersion = None
) -> BatchResponse:
    """Answer several requests at once, each as if it had come alone."""
    record = record_of(request.scope)
    together = object() if len(body.requests) > 1 else None

    async def answer(one: RecommendRequest) -> BatchResult:
        try:
            response, _ = await models.recommend(
                one, arrived_s=record.started_s, pinned=pinned, group=together
            )
        except ServiceError as error:
            return BatchResult(status=error.status_code, problem=problem_of(request.scope, error))
        return BatchResult(status=200, response=response)

    async with CancelledOnDisconnect(request.receive), asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(one)) for one in body.requests]
    results = [task.result() for task in tasks]
    failed = sum(result.response is None for result in results)
    record.fields |= {"requests": len(results), "failed": failed}
    return BatchResponse(results=results)


@router.get("/health/live")
async def live() -> Health:
    """The process runs and its event loop answers."""
    return Health(status="live")


@router.get("/health/ready", responses=problems(NotReadyError))
async def ready(lifecycle: LifecycleDep, settings: SettingsDep, request: Request) -> Health:
    """The model is loaded and warm, batches get done, and the service is not stopping."""
    if lifecycle.state != "ready":
        raise _not_ready(lifecycle.state)
    models: Models = request.app.state.models
    if models.busy_s() > settings.stall_after_s:
        raise _not_ready("stalled")
    return Health(status="ready")


@router.get("/info", responses=problems(NotReadyError))
async def info(models: ModelsDep, settings: SettingsDep) -> Info:
    """What runs: the active model, how good it was, and what a request may ask for."""
    engine = models.lineup.active.engine
    model = ModelInfo(
        name=engine.manifest.name,
        version=engine.manifest.version,
        metrics=engine.manifest.metrics,
        num_items=len(engine.catalog),
        retention_ratios=list(engine.retention_ratios),
        device=settings.device,
        dtype=settings.dtype,
        kernels=engine.kernels,
        compiled_batch_sizes=list(engine.buckets.batch_sizes),
    )
    limits = Limits(
        max_limit=MAX_LIMIT,
        max_deadline_ms=MAX_DEADLINE_MS,
        **settings.model_dump(include=set(Limits.model_fields)),
    )
    return Info(
        service="STAMP Recommender", service_version=__version__, model=model, limits=limits
    )


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Prometheus' metrics, in its text format; in OpenMetrics' where the caller accepts that."""
    body, media_type = request.app.state.metrics.exposition(request.headers.get("Accept", ""))
    return Response(body, headers={"Content-Type": media_type})


def _not_ready(reason: str) -> NotReadyError:
    return NotReadyError(DETAILS[reason], retry_after_s=RETRY_AFTER_S, reason=reason)
