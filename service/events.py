"""The use cases about histories: events come in, a history is shown or deleted."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from model.catalog import Catalog
from service.errors import HistoryStoreError, IdempotencyKeyReusedError
from service.event_schemas import (
    Event,
    EventsRequest,
    EventsResponse,
    HistoryItem,
    UserHistory,
)
from service.history import HistoryStore
from service.history.store import Append, NewItem

RETRY_AFTER_S = 2.0

log = structlog.get_logger()


async def record_events(
    store: HistoryStore, catalog: Catalog, request: EventsRequest, idempotency_key: str | None
) -> EventsResponse:
    """Append the events to their users' histories, each user's all at once or not at all.

    Within the request a user's events are ordered by time; those of the same time, and different
    requests, in the order they came. Raises IdempotencyKeyReusedError and HistoryStoreError; the
    latter says in `applied` how many events are in, and in `not_applied` which are not.
    """
    events = request.events
    if idempotency_key is not None:
        await _claim(store, idempotency_key, request)
    places = _places_by_user(events, now_ms=time.time_ns() // 1_000_000)
    appends = []
    for user_id, part in places.items():
        items = [NewItem(events[at].item_id, _token(events, at, idempotency_key)) for at in part]
        appends.append(Append(user_id, items))
    try:
        appended = await store.append_many(appends)
    except HistoryStoreError as error:
        raise _failure(error, 0, range(len(events))) from error
    results = dict(zip(places, appended, strict=True))
    applied = sum(result for result in appended if isinstance(result, int))
    if errors := [result for result in appended if isinstance(result, HistoryStoreError)]:
        missing = [n for n, event in enumerate(events) if results[event.user_id] in errors]
        raise _failure(errors[0], applied, missing)
    items_named = dict.fromkeys(event.item_id for event in events)
    return EventsResponse(
        applied=applied,
        duplicates=len(events) - applied,
        unknown_items=[item_id for item_id in items_named if catalog.index_of(item_id) is None],
    )


async def read_history(
    store: HistoryStore, catalog: Catalog, user_id: str, limit: int
) -> UserHistory:
    """The newest items of a user; raises HistoryStoreError also when they cannot be read."""
    with _logged():
        (history,) = await store.get_many([user_id])
        if history is None:
            raise HistoryStoreError("a history is unreadable")
    items = []
    for item_id in history[-limit:]:
        index = catalog.index_of(item_id)
        title = None if index is None else catalog.titles[index]
        items.append(HistoryItem(item_id=item_id, title=title))
    return UserHistory(user_id=user_id, num_items=len(history), items=items)


async def delete_history(store: HistoryStore, user_id: str) -> None:
    """Forget a user; raises HistoryStoreError."""
    with _logged():
        await store.delete(user_id)


async def _claim(store: HistoryStore, key: str, request: EventsRequest) -> None:
    """See to it that the key is this body's, or raise IdempotencyKeyReusedError."""
    fingerprint = _digest("body", request.model_dump_json())
    try:
        claimed = await store.claim(_digest("key", key), fingerprint)
    except HistoryStoreError as error:
        raise _failure(error, 0, range(len(request.events))) from error
    if not claimed:
        raise IdempotencyKeyReusedError("This Idempotency-Key came with another body before.")


def _places_by_user(events: Sequence[Event], now_ms: int) -> dict[str, list[int]]:
    """For each user the places of their events in the request, ordered by time."""
    times = [now_ms if event.timestamp is None else event.timestamp for event in events]
    places: dict[str, list[int]] = {}
    for at in sorted(range(len(events)), key=times.__getitem__):
        places.setdefault(events[at].user_id, []).append(at)
    return places


def _token(events: Sequence[Event], at: int, idempotency_key: str | None) -> bytes | None:
    """By what the event is known again: its own id, or else its place under the request's key."""
    if (event_id := events[at].event_id) is not None:
        return _digest("event", event_id)
    return None if idempotency_key is None else _digest(f"place {at}", idempotency_key)


def _digest(kind: str, text: str) -> bytes:
    """16 bytes that stand for the text, others for each kind."""
    return hashlib.blake2b(f"{kind}:{text}".encode(), digest_size=16).digest()


def _failure(error: HistoryStoreError, applied: int, missing: Sequence[int]) -> HistoryStoreError:
    """The answer when events are missing; the log has the cause."""
    log.warning("history_store_failed", error=error.detail, events=len(missing))
    return HistoryStoreError(
        f"{len(missing)} of the events are not, or not for certain, in the histories. With "
        "event_id or Idempotency-Key, send the same request again; else those in not_applied.",
        retry_after_s=RETRY_AFTER_S,
        applied=applied,
        not_applied=list(missing),
    )


@contextmanager
def _logged() -> Iterator[None]:
    """Tell the log why the store failed, and the caller only that it did."""
    try:
        yield
    except HistoryStoreError as error:
        log.warning("history_store_failed", error=error.detail, users=1)
        detail = "The history store does not answer, or not with this history."
        raise HistoryStoreError(detail, retry_after_s=RETRY_AFTER_S) from error
