"""Endpoints about the versions of the model: parse, call, answer."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated

from fastapi import APIRouter, Path

from service.errors import (
    BodyTooLargeError,
    InvalidJsonError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelUnusableError,
    NoPreviousModelError,
    NotReadyError,
    PathNotFoundError,
    UnsupportedMediaTypeError,
)
from service.lineup import Lineup
from service.model_schemas import AvailableModel, LoadedModel, ModelList, ModelsChanged
from service.models import Models
from service.plan import Plan
from service.routes import ModelsDep, problems

model_router = APIRouter(redirect_slashes=False)

VersionInPath = Annotated[
    str, Path(min_length=1, max_length=256, description="A version, or `newest`.")
]


@model_router.get("/models", responses=problems(NotReadyError))
async def list_models(models: ModelsDep) -> ModelList:
    """Return which versions serve, which are loaded, and which there are."""
    return ModelList(**await _list(models))


@model_router.post(
    "/models/{version}/activate",
    responses=problems(
        PathNotFoundError,
        ModelNotFoundError,
        ModelUnusableError,
        InvalidRequestError,
        NotReadyError,
    ),
)
async def activate_model(version: VersionInPath, models: ModelsDep) -> ModelsChanged:
    """Load a version, warm it, and let it serve from then on; `newest` follows the folder."""
    return await _changed(models, models.activate(version))


@model_router.post(
    "/models/rollback",
    responses=problems(NoPreviousModelError, ModelNotFoundError, ModelUnusableError, NotReadyError),
)
async def roll_back_model(models: ModelsDep) -> ModelsChanged:
    """Let the version serve that did before, at once: it is still loaded."""
    return await _changed(models, models.roll_back())


@model_router.put(
    "/models/plan",
    responses=problems(
        InvalidJsonError,
        BodyTooLargeError,
        UnsupportedMediaTypeError,
        ModelNotFoundError,
        ModelUnusableError,
        InvalidRequestError,
        NotReadyError,
    ),
)
async def put_model_plan(plan: Plan, models: ModelsDep) -> ModelsChanged:
    """Carry out a whole plan: the active version, a split of the users, a shadow."""
    return await _changed(models, models.follow(plan))


async def _changed(models: Models, change: Coroutine[None, None, bool]) -> ModelsChanged:
    """Make the change, whether or not the caller stays, and return the models after it."""
    plan_kept = await asyncio.shield(asyncio.create_task(change))
    return ModelsChanged(**await _list(models), plan_kept=plan_kept)


async def _list(models: Models) -> dict[str, object]:
    versions = await asyncio.to_thread(models.folder.versions)
    lineup = models.lineup
    loaded = [
        LoadedModel(
            version=name,
            roles=_roles(lineup, name),
            num_items=len(serving.engine.catalog),
            waiting=serving.recommender.batcher.num_waiting(),
        )
        for name, serving in lineup.serving.items()
    ]
    manifests = [version.manifest for version in versions]
    available = [
        AvailableModel(
            name=manifest.name,
            version=manifest.version,
            created_at=manifest.created_at,
            metrics=manifest.metrics,
        )
        for manifest in manifests
    ]
    return {
        "active": lineup.active.version.name,
        "previous": lineup.previous,
        "plan": lineup.plan,
        "loaded": loaded,
        "available": available,
    }


def _roles(lineup: Lineup, name: str) -> list[str]:
    """What a loaded version is there for."""
    shadow = lineup.plan.shadow
    roles = {
        "active": name == lineup.active.version.name,
        "split": name in lineup.plan.split,
        "shadow": shadow is not None and shadow.version == name,
        "previous": name == lineup.previous,
    }
    return [role for role, has_it in roles.items() if has_it]
