"""What goes wrong: StartupError, and ServiceError's children, each a status and a stable code."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import JsonValue
from starlette.exceptions import HTTPException


class StartupError(Exception):
    """The service cannot start; the message is the one line its operator reads."""


class ServiceError(HTTPException):
    """A caller's mistake or our overload, answered with the class's status and stable code.

    An HTTPException, because that is the one kind FastAPI lets pass while it reads a body.
    """

    status: ClassVar[int]
    code: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: float | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        **extensions: JsonValue,
    ) -> None:
        headers = {} if retry_after_s is None else {"Retry-After": str(math.ceil(retry_after_s))}
        super().__init__(self.status, detail, headers)
        self.errors = errors
        self.extensions = extensions


class InvalidJsonError(ServiceError):
    """The body is not JSON."""

    status = 400
    code = "invalid_json"


class UnauthorizedError(ServiceError):
    """The request brings no API key, or one that is not known."""

    status = 401
    code = "unauthorized"


class CatalogReadOnlyError(ServiceError):
    """This service keeps no changes to the catalog."""

    status = 403
    code = "catalog_read_only"


class PathNotFoundError(ServiceError):
    """There is no such path: an id with a line break in it, for one, is not found in any."""

    status = 404
    code = "not_found"


class ItemNotFoundError(ServiceError):
    """The catalog does not know the item."""

    status = 404
    code = "item_not_found"


class ModelNotFoundError(ServiceError):
    """There is no such version of the model in the bundle folder."""

    status = 404
    code = "model_not_found"


class ModelNotLoadedError(ServiceError):
    """The version that X-Model-Version names does not serve here."""

    status = 404
    code = "model_not_loaded"


class ModelUnusableError(ServiceError):
    """The version cannot be loaded; what served before goes on serving."""

    status = 409
    code = "model_unusable"


class NoPreviousModelError(ServiceError):
    """No other version served before this one."""

    status = 409
    code = "no_previous_model"


class CatalogUnavailableError(ServiceError):
    """The file of catalog changes failed; nothing was changed."""

    status = 503
    code = "catalog_unavailable"


class InvalidRequestError(ServiceError):
    """A field has a value this bundle or these settings do not allow."""

    status = 422
    code = "invalid_request"


class UnsupportedMediaTypeError(ServiceError):
    """The body is not declared to be JSON."""

    status = 415
    code = "unsupported_media_type"


class BodyTooLargeError(ServiceError):
    """The body is longer than max_body_bytes; the rest of it is not read."""

    status = 413
    code = "body_too_large"


class OverloadedError(ServiceError):
    """The queue is full: refuse now rather than answer too late."""

    status = 429
    code = "overloaded"


class RateLimitedError(ServiceError):
    """The caller's API key, or address, sent more requests than the rate limit allows."""

    status = 429
    code = "rate_limited"


class NotReadyError(ServiceError):
    """The service is loading, warming, draining, stalled or failed; `reason` says which."""

    status = 503
    code = "not_ready"


class HistoryStoreError(ServiceError):
    """The history store did not answer, or with something that is no history."""

    status = 503
    code = "history_unavailable"


class StoreUnreachableError(HistoryStoreError):
    """The history store did not answer in time, or is not there at all."""


class UnreadableHistoryError(HistoryStoreError):
    """What is stored for this one user is no history; deleting it mends that."""


class IdempotencyKeyReusedError(ServiceError):
    """The Idempotency-Key came with another body before."""

    status = 422
    code = "idempotency_key_reused"


class DeadlineExceededError(ServiceError):
    """The deadline passed first; what was still queued is never computed."""

    status = 504
    code = "deadline_exceeded"


class ClientClosedRequestError(ServiceError):
    """The client left before its answer; nobody reads this, but the log counts it."""

    status = 499
    code = "client_closed_request"


class ModelFailedError(ServiceError):
    """The model failed on this request's batch; the cause is in the log."""

    status = 500
    code = "internal_error"
