"""Quick: plain recommendations go past the framework's routing and parsing, to the same endpoint.

FastAPI spends about 115 microseconds of processor time on finding the endpoint, on its parameters,
body and answer: about a quarter of what the service spent on a request.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError
from service.problems import problem_response
from service.routes import models_of, recommend, router
from service.schemas import RecommendRequest

PATH, JSON, PINNED = "/recommend", b"application/json", b"x-model-version"
ROUTE = next(route for route in router.routes if getattr(route, "path", None) == PATH)


@dataclass(frozen=True)
class Quick:
    """Pure ASGI middleware around the framework, which gets whatever is out of the ordinary.

    So errors in the body are found and described by the framework alone.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to recommend whose body is right, or pass on what is none."""
        if not _is_plain(scope):
            await self.app(scope, receive, send)
            return
        scope["route"] = ROUTE
        try:
            messages = await _read(receive)
            body = _parsed(messages)
            if body is None:
                await self.app(scope, _again(messages, receive), send)
                return
            request = Request(scope, receive)
            found = await recommend(body, await models_of(request), request)
        except ServiceError as error:
            await problem_response(scope, error)(scope, receive, send)
            return
        content = found.__pydantic_serializer__.to_json(found, exclude_unset=True)
        length = (b"content-length", str(len(content)).encode())
        headers = [length, (b"content-type", JSON)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _is_plain(scope: Scope) -> bool:
    """Whether it is a request to recommend with nothing in its head that asks for more."""
    if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
        return False
    media_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value.partition(b";")[0]
        elif name == PINNED:
            return False
    return media_type == JSON


async def _read(receive: Receive) -> list[Message]:
    """The body's messages."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


def _parsed(messages: Sequence[Message]) -> RecommendRequest | None:
    """The body, None if anything is wrong with it."""
    if messages[-1]["type"] != "http.request":
        return None
    try:
        return RecommendRequest.model_validate_json(b"".join([m["body"] for m in messages]))
    except ValidationError:
        return None


def _again(messages: Sequence[Message], receive: Receive) -> Receive:
    """The messages, and then what comes after them."""
    known = iter(messages)

    async def receive_again() -> Message:
        message = next(known, None)
        return await receive() if message is None else message

    return receive_again
