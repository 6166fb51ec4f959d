"""API keys: who may come in, and what is open to everybody."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from service.api_keys import ApiKeys
from service.app import create_app
from service.errors import StartupError
from tests.service.callers import KEYS, recommend, told
from tests.service.conftest import Serve, settings_for
from tests.service.fakes import FakeEngine


@pytest.mark.parametrize("key", KEYS)
async def test_any_of_the_keys_opens_by_either_header(serve: Serve, key: str) -> None:
    """Several keys, so that one can be replaced while the other works."""
    async with serve(api_keys=",".join(KEYS)) as running:
        bearer = await recommend(running, Authorization=f"Bearer {key}")
        lower = await recommend(running, Authorization=f"bearer {key}")
        header = await recommend(running, X_API_Key=key)
        beside = await recommend(running, Authorization="Basic cHJveHk=", X_API_Key=key)

    assert [each.status_code for each in (bearer, lower, header, beside)] == [200] * 4


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {KEYS[0]}x"},
        {"Authorization": f"Basic {KEYS[0]}"},
        {"Authorization": KEYS[0]},
        {"X_API_Key": KEYS[0][:-1]},
        {"X_API_Key": ",".join(KEYS)},
        {"Authorization": "Bearer wrong", "X_API_Key": KEYS[0]},
    ],
)
async def test_without_a_known_key_nobody_comes_in(
    serve: Serve, engine: FakeEngine, headers: dict[str, str]
) -> None:
    """401 with a challenge, before anything is computed."""
    async with serve(api_keys=KEYS[0]) as running:
        response = await recommend(running, **headers)

    assert told(response) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"].startswith('Bearer realm="stamp"')
    assert engine.batches == []


async def test_a_wrong_key_is_told_apart_from_none(serve: Serve) -> None:
    """In the challenge, as RFC 6750 has it."""
    async with serve(api_keys=KEYS[0]) as running:
        none = await recommend(running)
        wrong = await recommend(running, X_API_Key="wrong")

    assert 'error="invalid_token"' not in none.headers["WWW-Authenticate"]
    assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/metrics", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/info", 401),
        ("/recommend", 401),
        ("/metrics/", 401),
        ("/healthy", 401),
        ("//metrics", 401),
        ("/nowhere", 401),
    ],
)
async def test_probes_and_pages_need_no_key(serve: Serve, path: str, status: int) -> None:
    """Everything else does, paths included that do not exist."""
    async with serve(api_keys=KEYS[0]) as running:
        response = await running.client.get(f"http://service{path}")

    assert response.status_code == status


async def test_a_page_that_comes_later_needs_no_key(serve: Serve) -> None:
    """The page at / and what it loads are not refused for want of one; they are not there yet."""
    async with serve(api_keys=KEYS[0]) as running:
        statuses = [
            (await running.client.get(path)).status_code for path in ("/", "/static/page.js")
        ]

    assert 401 not in statuses


async def test_the_documentation_may_need_a_key(serve: Serve) -> None:
    """By a setting."""
    async with serve(api_keys=KEYS[0], public_docs=False) as running:
        shut = [(await running.client.get(path)).status_code for path in ("/docs", "/openapi.json")]
        opened = await running.client.get("/docs", headers={"X-API-Key": KEYS[0]})

    assert (shut, opened.status_code) == ([401, 401], 200)


async def test_keys_may_stand_in_a_file(serve: Serve, tmp_path: Path) -> None:
    """One a line, as Docker and Kubernetes hand out secrets, beside those of the setting."""
    file = tmp_path / "keys"
    file.write_text(f"{KEYS[0]}\n\n", encoding="utf-8")

    async with serve(api_keys=KEYS[1], api_keys_file=file) as running:
        statuses = [(await recommend(running, X_API_Key=key)).status_code for key in KEYS]

    assert statuses == [200, 200]


@pytest.mark.parametrize("text", ["", " ,\n", "short", f"{KEYS[0]},short", "\xe9" * 20])
def test_keys_that_are_none_refuse_to_start(tmp_path: Path, text: str) -> None:
    """Rather than to be open by mistake, or easily guessed; the line holds no key."""
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(StartupError) as error:
        create_app(settings_for(tmp_path, api_keys_file=file))

    assert "API key" in str(error.value)
    assert KEYS[0] not in str(error.value)
    assert "short" not in str(error.value)


def test_a_missing_file_of_keys_refuses_to_start(tmp_path: Path) -> None:
    """The line names it."""
    with pytest.raises(StartupError, match=r"none: cannot read the API keys"):
        create_app(settings_for(tmp_path, api_keys_file=tmp_path / "none"))


def test_keys_are_not_held_as_they_are() -> None:
    """Neither in the object nor in what a traceback would show of it."""
    keys = ApiKeys.load(SecretStr(KEYS[0]), None)

    assert KEYS[0] not in repr(keys)
    assert KEYS[0].encode() not in keys.digests


async def test_the_log_tells_callers_apart_but_holds_no_key(serve: Serve) -> None:
    """The same short name for the same key; none for a wrong one."""
    async with serve(api_keys=",".join(KEYS)) as running:
        with capture_logs() as lines:
            await recommend(running, Authorization=f"Bearer {KEYS[0]}")
            await recommend(running, X_API_Key=KEYS[0])
            await recommend(running, X_API_Key=KEYS[1])
            await recommend(running, X_API_Key="wrong-key-0123456789")

    first, again, second, wrong = [line.get("key_id") for line in lines]
    assert first == again != second
    assert wrong is None
    assert not any(key in str(lines) for key in (*KEYS, "wrong-key"))
