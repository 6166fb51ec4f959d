"""Whatever the API's description allows, and much that it does not, against a real service.

Every operation gets FUZZ_CASES requests (25 unless the variable says otherwise), the same ones each
time; `make fuzz` sends more than five thousand.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from prometheus_client.parser import text_string_to_metric_families
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.service.conftest import write_bundle
from tests.service.process import Process

CASES = int(os.environ.get("FUZZ_CASES", "25"))
OPERATIONS = (
    ("POST", "/recommend"),
    ("POST", "/recommend/batch"),
    ("POST", "/events"),
    ("GET", "/users/{user_id}/history"),
    ("DELETE", "/users/{user_id}/history"),
    ("GET", "/items"),
    ("GET", "/items/{item_id}"),
    ("PUT", "/items/{item_id}"),
    ("DELETE", "/items/{item_id}"),
    ("GET", "/models"),
    ("POST", "/models/{version}/activate"),
    ("POST", "/models/rollback"),
    ("PUT", "/models/plan"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/info"),
    ("GET", "/metrics"),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a service with two versions, a store and a catalog that may change listens."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    for version in ("v1", "v2"):
        write_bundle(folder / "bundles", version)
    process = Process(
        *("-m", "service", "serve", "--port", "0"),
        STAMP_BUNDLE_DIR=str(folder / "bundles"),
        STAMP_HISTORY_URL=f"sqlite:///{folder}/histories.db",
        STAMP_CATALOG_FILE=str(folder / "catalog.db"),
    )
    try:
        process.until_ready()
        yield process.url
        print(f"{requests_counted(process.url)} requests")  # noqa: T201  # pytest -s shows it
    finally:
        process.stop()


def requests_counted(url: str) -> int:
    """How many the service says it has answered."""
    samples = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    counts = next(family for family in samples if family.name == "stamp_http_requests")
    return int(sum(sample.value for sample in counts.samples))


@pytest.fixture(scope="module")
def schema(url: str) -> Any:
    """The API's description, as the service gives it."""
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_every_operation_is_fuzzed(url: str) -> None:
    """One that is new must be listed here."""
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]

    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert described == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_is_a_bug_of_ours(schema: Any, method: str, path: str) -> None:
    """Each answer is one that the description has: never a 500, never another shape.

    A refusal is fine: JSON Schema cannot say that a user or a history is needed, for one.
    """

    @hypothesis.settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @hypothesis.given(case=schema[path][method].as_strategy())
    def ask(case: Any) -> None:
        response = case.call()
        assert response.status_code != 500, response.text
        case.validate_response(response, excluded_checks=[positive_data_acceptance])

    ask()
