"""The API's description: what FastAPI knows, and what only the middleware does."""

import inspect
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api_keys import is_open
from service.errors import RateLimitedError, UnauthorizedError

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}, {}]
"""{}: without any, where the operator set no keys."""


def openapi(app: FastAPI) -> dict[str, Any]:
    """The description, in which failures have the media type they really have."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        schema.setdefault("components", {})["securitySchemes"] = SCHEMES
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                if not is_open(path, public_docs=True):
                    operation["security"] = SECURITY
                    _add_problem(operation["responses"], UnauthorizedError)
                    _add_problem(operation["responses"], RateLimitedError)
                _name_media_type(operation["responses"])
        app.openapi_schema = schema
    return app.openapi_schema


def _add_problem(
    responses: dict[str, Any], error: type[UnauthorizedError] | type[RateLimitedError]
) -> None:
    """A failure that the middleware answers with, beside others of its status."""
    text = f"`{error.code}`: {inspect.getdoc(error)}"
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    known = responses.setdefault(str(error.status), {"description": "", "content": content})
    known["description"] = "\n\n".join(filter(None, [known["description"], text]))


def _name_media_type(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        if not status.startswith("2"):
            problem = response["content"].pop("application/json")
            response["content"]["application/problem+json"] = problem
