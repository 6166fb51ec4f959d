"""Plain recommendations go past the framework, and nobody can tell by the answers."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from httpx import Response
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.types import Message

from service.quick import ROUTE
from service.schemas import RecommendRequest
from tests.service.conftest import Running, Serve

QUICK, FRAMEWORK = "application/json", "application/also+json"
OWN = {"request_id", "recommendation_id"}  # of every answer

BODIES = [
    '{"history": ["item-1", "item-4"], "limit": 3}',
    '{"history": ["item-1", "nothing"], "explain": true}',
    '{"user_id": "nobody"}',
    '{"history": ["item-1"], "filter": {"deny": ["item-2"]}, "boosts": []}',
    '{"history": ["item-1"], "retention_ratio": 1}',
    '{"history": ["item-1"], "retention_ratio": 0.77}',
    '{"history": ["item-1"], "retention_ratio": NaN}',
    '{"history": ["item-1"], "retention_ratio": 1e400}',
    '{"history": ["item-1"], "limit": 3.0}',
    '{"history": ["item-1"], "limit": "3"}',
    '{"history": ["item-1"], "limit": 1000000000000000000000000000000}',
    '{"history": ["item-1"], "limit": 3, "limit": 4}',
    '{"history": ["item-1"], "limit": 0, "limit": 4}',
    '{"history": ["item-1"], "limit": 4, "limit": 0}',
    '{"history": ["\\ud800"]}',
    '{"history": ["\\ud83d\\ude00 \\u0000"]}',
    '{"history": ["item-1"],}',
    '{"history": ["item-1"]} x',
    '\ufeff{"history": ["item-1"]}',
    '{"history": "item-1"}',
    '{"hostory": ["item-1"]}',
    "[]",
    "null",
    "",
    "\n",
]


def without_own(response: Response) -> object:
    """What two answers to one request have in common."""
    return {name: value for name, value in response.json().items() if name not in OWN}


@pytest.mark.parametrize("body", BODIES)
async def test_both_ways_answer_alike(running: Running, body: str) -> None:
    """Right or wrong, to the last field."""
    quick, framework = [
        await running.client.post(
            "/recommend", content=body.encode(), headers={"Content-Type": media_type}
        )
        for media_type in (QUICK, FRAMEWORK)
    ]

    assert quick.status_code == framework.status_code
    assert without_own(quick) == without_own(framework)
    assert quick.headers.keys() == framework.headers.keys()
    assert quick.headers["Content-Type"] == framework.headers["Content-Type"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
plausible = st.fixed_dictionaries(
    {"history": st.lists(st.text(min_size=1, max_size=4), max_size=3)},
    optional={
        "limit": st.integers(1, 100),
        "explain": st.booleans(),
        "retention_ratio": st.floats(0, 1) | st.integers(0, 1),
        "boosts": st.lists(st.fixed_dictionaries({"by": st.floats(-1, 1) | st.integers()})),
    },
)
named = st.dictionaries(st.sampled_from(sorted(RecommendRequest.model_fields)), json_values)


@given(value=plausible | named | json_values)
def test_what_is_read_quickly_the_framework_reads_alike(value: object) -> None:
    """Pydantic's parser accepts nothing that Python's and pydantic's validation would not."""
    text = json.dumps(value)
    try:
        quick = RecommendRequest.model_validate_json(text)
    except ValidationError:
        return

    assert quick == RecommendRequest.model_validate(json.loads(text))


async def test_a_pinned_version_is_the_frameworks_to_look_for(running: Running) -> None:
    """A header that the quick way does not read."""
    response = await running.client.post(
        "/recommend", json={"history": ["item-1"]}, headers={"X-Model-Version": "none"}
    )

    assert response.json()["code"] == "model_not_loaded"


@pytest.mark.parametrize("body", [{"history": ["item-1"]}, {"history": "item-1"}])
async def test_a_body_in_pieces_is_put_together(running: Running, body: dict[str, object]) -> None:
    """On both ways: the framework gets what was read before."""

    async def pieces() -> AsyncIterator[bytes]:
        for byte in json.dumps(body).encode():
            yield bytes([byte])

    headers = {"Content-Type": QUICK}
    response = await running.client.post("/recommend", content=pieces(), headers=headers)

    whole = await running.client.post("/recommend", json=body)
    assert response.status_code == whole.status_code
    assert without_own(response) == without_own(whole)


async def test_a_body_that_is_too_long_is_refused(serve: Serve) -> None:
    """Also when its length was not declared, so that it is noticed while it is read."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    async with serve(max_body_bytes=1_000) as running:
        response = await running.client.post(
            "/recommend", content=endless(), headers={"Content-Type": QUICK}
        )

    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_a_client_who_leaves_while_sending_gets_no_bug(running: Running) -> None:
    """The framework answers 400 to nobody, and nothing is logged as ours."""
    sent: list[Message] = []
    messages: Iterator[Message] = iter(
        [
            {"type": "http.request", "body": b'{"history"', "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/recommend",
        "raw_path": b"/recommend",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "server": ("service", 80),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "http_version": "1.1",
    }
    await running.app(scope, receive, send)

    assert sent[0]["status"] == 400


async def test_it_is_counted_under_its_route(running: Running) -> None:
    """The metrics name what was asked for."""
    await running.recommend(history=["item-1"])

    metrics = (await running.client.get("/metrics")).text
    assert 'stamp_http_requests_total{method="POST",route="/recommend",status="200"} 1.0' in metrics
    assert getattr(ROUTE, "path", None) == "/recommend"
