"""Endpoints about histories: parse, call, answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request

from service import events as use_cases
from service.errors import (
    BodyTooLargeError,
    HistoryStoreError,
    IdempotencyKeyReusedError,
    InvalidJsonError,
    InvalidRequestError,
    NotReadyError,
    PathNotFoundError,
    UnsupportedMediaTypeError,
)
from service.event_schemas import EventsRequest, EventsResponse, UserHistory
from service.history import HistoryStore
from service.logs import record_of
from service.routes import ModelsDep, problems

event_router = APIRouter(redirect_slashes=False)


async def store_of(request: Request) -> HistoryStore:
    """The history store."""
    store: HistoryStore = request.app.state.history
    return store


StoreDep = Annotated[HistoryStore, Depends(store_of)]
UserIdInPath = Annotated[str, Path(min_length=1, max_length=256)]


@event_router.post(
    "/events",
    responses=problems(
        InvalidJsonError,
        BodyTooLargeError,
        UnsupportedMediaTypeError,
        InvalidRequestError,
        IdempotencyKeyReusedError,
        NotReadyError,
        HistoryStoreError,
    ),
)
async def events(
    body: EventsRequest,
    store: StoreDep,
    models: ModelsDep,
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=256,
            description="The same request under the same key is applied once within 24 hours.",
        ),
    ] = None,
) -> EventsResponse:
    """Append what users did to their histories; the next recommendation goes by it."""
    catalog = models.lineup.active.engine.catalog
    response = await use_cases.record_events(store, catalog, body, idempotency_key)
    record_of(request.scope).fields |= {
        "events": len(body.events),
        "applied": response.applied,
    }
    return response


@event_router.get(
    "/users/{user_id:path}/history",
    responses=problems(PathNotFoundError, InvalidRequestError, NotReadyError, HistoryStoreError),
)
async def history(
    user_id: UserIdInPath,
    store: StoreDep,
    models: ModelsDep,
    limit: Annotated[int, Query(ge=1, le=10_000, description="The newest items, at most.")] = 1_000,
) -> UserHistory:
    """Show what the store knows of a user; of a stranger, an empty history."""
    catalog = models.lineup.active.engine.catalog
    return await use_cases.read_history(store, catalog, user_id, limit)


@event_router.delete(
    "/users/{user_id:path}/history",
    status_code=204,
    responses=problems(PathNotFoundError, InvalidRequestError, HistoryStoreError),
)
async def delete_history(user_id: UserIdInPath, store: StoreDep) -> None:
    """Forget a user: history and the ids of events. Again, it changes nothing."""
    await use_cases.delete_history(store, user_id)
