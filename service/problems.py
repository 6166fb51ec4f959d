"""Every failure is answered with a problem: RFC 9457's application/problem+json.

Its members are type, title, status, detail and instance, and as extensions a stable `code`, the
`request_id` and `errors`, one per wrong field.
"""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from service.errors import (
    ClientClosedRequestError,
    InvalidJsonError,
    InvalidRequestError,
    ModelFailedError,
    PathNotFoundError,
    ServiceError,
    UnsupportedMediaTypeError,
)
from service.logs import record_of

MAX_ERRORS_LISTED = 20
MAX_POINTER_CHARS = 200
FRAMEWORK_CODES = {
    400: InvalidJsonError.code,
    404: PathNotFoundError.code,
    405: "method_not_allowed",
}


def install_error_handlers(app: FastAPI) -> None:
    """Answer every failure of `app` with a problem."""
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_bug)


def problem_of(scope: Scope, error: HTTPException) -> dict[str, Any]:
    """What the caller is told about `error`, see `schemas.Problem`."""
    code = _code_of(error)
    problem: dict[str, Any] = {
        "type": f"urn:stamp-recommender:problem:{code}",
        "title": _title(error.status_code),
        "status": error.status_code,
        "detail": error.detail,
        "instance": quote(scope["path"]),
        "code": code,
        "request_id": record_of(scope).request_id,
        "errors": [],
    }
    if isinstance(error, ServiceError):
        problem |= {**error.extensions, "errors": list(error.errors)}
    return problem


def problem_response(scope: Scope, error: HTTPException) -> Response:
    """The response that tells the caller about `error`.

    ASCII JSON, because what the caller sent and we repeat may not be valid Unicode.
    """
    problem = problem_of(scope, error)
    record_of(scope).fields["code"] = problem["code"]
    return Response(
        json.dumps(problem),
        status_code=error.status_code,
        headers=error.headers,
        media_type="application/problem+json",
    )


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer a ServiceError, or what the framework refuses: no such path, method, JSON."""
    assert isinstance(error, HTTPException)
    return problem_response(request.scope, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """Answer a body that is not JSON, not declared so, or not what the endpoint takes."""
    assert isinstance(error, RequestValidationError)
    entries = error.errors()
    if entries[0]["type"] == "json_invalid":
        detail = f"The body is not JSON: {entries[0]['ctx']['error']} at {entries[0]['loc'][1]}."
        return problem_response(request.scope, InvalidJsonError(detail))
    if isinstance(error.body, bytes):
        return problem_response(
            request.scope,
            UnsupportedMediaTypeError("Send JSON as `Content-Type: application/json`."),
        )
    listed = [
        {"pointer": _pointer(entry["loc"][1:]), "code": entry["type"], "detail": entry["msg"]}
        for entry in entries[:MAX_ERRORS_LISTED]
    ]
    invalid = InvalidRequestError(
        f"{listed[0]['pointer'] or 'The body'}: {listed[0]['detail']}", errors=listed
    )
    return problem_response(request.scope, invalid)


async def _on_bug(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Answer our own bug without telling what it was; uvicorn logs it.

    This happens outside of the middleware, so its headers are added here.
    """
    response = problem_response(
        request.scope, ModelFailedError("The service failed on this request; it has been logged.")
    )
    response.raw_headers = record_of(request.scope).headers(response.raw_headers)
    return response


def _code_of(error: HTTPException) -> str:
    if isinstance(error, ServiceError):
        return error.code
    return FRAMEWORK_CODES[error.status_code]


def _title(status: int) -> str:
    return (
        "Client Closed Request"
        if status == ClientClosedRequestError.status
        else HTTPStatus(status).phrase
    )


def _pointer(location: Sequence[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a field in the body; "" is the body itself."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in location)
    return "".join(f"/{step}" for step in steps)[:MAX_POINTER_CHARS]
