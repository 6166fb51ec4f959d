"""Every failure is a problem: RFC 9457, a stable code, and never a 500 for a caller's mistake."""

import json
from pathlib import Path

import httpx
import pytest

from service.errors import ServiceError
from tests.service.conftest import Running

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
JSON = "application/json"
HUGE_INT = "9" * 5000
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


async def post(
    running: Running, body: str | bytes, media_type: str | None = JSON
) -> httpx.Response:
    """The response to this body, sent as it is."""
    headers = {} if media_type is None else {"Content-Type": media_type}
    return await running.client.post("/recommend", content=body, headers=headers)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param('{"user_id":', 400, "invalid_json", id="cut JSON"),
        pytest.param(b"\xff\xfe\xfd", 400, "invalid_json", id="no UTF-8"),
        pytest.param("[" * 100_000, 400, "invalid_json", id="deep nesting"),
        pytest.param(f'{{"limit":{HUGE_INT}}}', 400, "invalid_json", id="5000 digits"),
        pytest.param("", 422, "invalid_request", id="no body"),
        pytest.param("null", 422, "invalid_request", id="null"),
        pytest.param("[]", 422, "invalid_request", id="no object"),
        pytest.param("{}", 422, "invalid_request", id="neither user nor history"),
        pytest.param('{"user_id":null}', 422, "invalid_request", id="user null"),
        pytest.param('{"user_id":1}', 422, "invalid_request", id="user no text"),
        pytest.param('{"user_id":""}', 422, "invalid_request", id="user empty"),
        pytest.param('{"user_id":"%s"}' % ("u" * 257), 422, "invalid_request", id="user long"),
        pytest.param('{"user_id":"\\ud800"}', 422, "invalid_request", id="lone surrogate"),
        pytest.param('{"user_id":"u","\\ud800":1}', 422, "invalid_request", id="surrogate name"),
        pytest.param('{"user_id":"u","x":1}', 422, "invalid_request", id="unknown field"),
        pytest.param('{"user_id":"u","limit":0}', 422, "invalid_request", id="limit 0"),
        pytest.param('{"user_id":"u","limit":101}', 422, "invalid_request", id="limit 101"),
        pytest.param('{"user_id":"u","limit":"5"}', 422, "invalid_request", id="limit text"),
        pytest.param('{"user_id":"u","limit":5.0}', 422, "invalid_request", id="limit float"),
        pytest.param('{"user_id":"u","limit":true}', 422, "invalid_request", id="limit bool"),
        pytest.param('{"user_id":"u","limit":NaN}', 422, "invalid_request", id="limit NaN"),
        pytest.param('{"user_id":"u","limit":1e400}', 422, "invalid_request", id="limit inf"),
        pytest.param('{"user_id":"u","limit":%s}' % ("9" * 300), 422, "invalid_request", id="big"),
        pytest.param(
            '{"user_id":"u","limit":%s}' % ("[" * 500 + "]" * 500), 422, "invalid_request"
        ),
        pytest.param('{"user_id":"u","beam_width":9}', 422, "invalid_request", id="beam < limit"),
        pytest.param('{"user_id":"u","retention_ratio":NaN}', 422, "invalid_request", id="NaN"),
        pytest.param(
            '{"user_id":"u","retention_ratio":Infinity}', 422, "invalid_request", id="inf"
        ),
        pytest.param('{"user_id":"u","retention_ratio":0}', 422, "invalid_request", id="ratio 0"),
        pytest.param('{"user_id":"u","deadline_ms":0}', 422, "invalid_request", id="deadline 0"),
        pytest.param('{"user_id":"u","explain":1}', 422, "invalid_request", id="explain int"),
        pytest.param('{"history":"item-1"}', 422, "invalid_request", id="history text"),
        pytest.param('{"history":[1]}', 422, "invalid_request", id="history of ints"),
        pytest.param('{"history":[null]}', 422, "invalid_request", id="history of null"),
        pytest.param('{"user_id":"u","filter":[]}', 422, "invalid_request", id="filter list"),
        pytest.param('{"user_id":"u","filter":{"deny":"a"}}', 422, "invalid_request", id="deny"),
        pytest.param('{"user_id":"u","filter":{"only":[]}}', 422, "invalid_request", id="only"),
        pytest.param('{"user_id":"u","boosts":[{"by":1}]}', 422, "invalid_request", id="boost all"),
        pytest.param('{"user_id":"u","boosts":[{"by":11}]}', 422, "invalid_request", id="boost 11"),
        pytest.param('{"user_id":"u","diversity":{}}', 422, "invalid_request", id="diversity"),
        pytest.param('{"user_id":"u","explore":-1}', 422, "invalid_request", id="explore"),
    ],
)
async def test_a_bad_body_is_the_callers_mistake(
    running: Running, body: str | bytes, status: int, code: str
) -> None:
    """4xx with the right code, as a problem with all its members."""
    response = await post(running, body)

    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem.keys() == MEMBERS
    assert problem["status"] == status
    assert problem["type"] == f"urn:stamp-recommender:problem:{code}"
    assert problem["instance"] == "/recommend"
    assert problem["request_id"] == response.headers["X-Request-Id"]


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_that_is_not_declared_json_is_refused(
    running: Running, media_type: str | None
) -> None:
    """415 says what to declare."""
    response = await post(running, '{"user_id":"u"}', media_type)

    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert JSON in response.json()["detail"]


async def test_a_media_type_may_have_parameters(running: Running) -> None:
    """As many clients send it."""
    response = await post(running, '{"user_id":"u"}', "application/json; charset=utf-8")

    assert response.status_code == 200


async def test_each_wrong_field_is_pointed_at(running: Running) -> None:
    """JSON pointers, so that a caller can mark the field."""
    response = await post(running, '{"limit":0,"history":["a",1],"a/b~":1}')

    errors = response.json()["errors"]
    assert [error["pointer"] for error in errors] == ["/history/1", "/limit", "/a~1b~0"]
    assert [error["code"] for error in errors] == [
        "string_type",
        "greater_than_equal",
        "extra_forbidden",
    ]


async def test_what_a_caller_sends_is_not_sent_back_at_length(running: Running) -> None:
    """Many and long unknown names make neither a long answer nor a long log line."""
    names = [f"{index}{'x' * 2000}" for index in range(100)]

    response = await post(running, json.dumps({"user_id": "u", **dict.fromkeys(names, 1)}))

    assert len(response.json()["errors"]) == 20
    assert len(response.content) < 8000


async def test_an_unknown_path_is_a_problem(running: Running) -> None:
    """404, also for a path that is almost right: nobody is redirected."""
    responses = [await running.client.get(path) for path in ("/nope", "/info/", "/%ff%0a")]

    assert [response.status_code for response in responses] == [404, 404, 404]
    assert {response.json()["code"] for response in responses} == {"not_found"}


async def test_a_wrong_method_is_a_problem(running: Running) -> None:
    """405 names the right one."""
    response = await running.client.get("/recommend")

    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["Allow"] == "POST"


async def test_our_own_bug_is_a_problem_that_tells_nothing(running: Running) -> None:
    """500 with the request id, by which the log tells the rest."""

    @running.app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("secret")

    response = await running.client.get("/bug", headers={"X-Request-Id": "mine"})

    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert response.json()["request_id"] == response.headers["X-Request-Id"] == "mine"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "secret" not in response.text


def test_every_code_is_documented() -> None:
    """docs/operations.md lists each status with its code."""
    text = OPERATIONS.read_text(encoding="utf-8")
    missing = [
        error.code
        for error in ServiceError.__subclasses__()
        if f"| {error.status} | `{error.code}` |" not in text
    ]

    assert missing == []
