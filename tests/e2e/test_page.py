"""The playground in a real browser, in front of a real service."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.service.conftest import write_bundle
from tests.service.process import Process

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
KEY = "a-key-of-thirty-two-characters-00"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A new tab that tolerates no error: of scripts, nor of the content security policy."""
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None,
    )
    yield page
    page.close()
    assert errors == []


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service of an untrained model of forty items."""
    with_service = _start(tmp_path_factory.mktemp("open"))
    yield with_service
    with_service.stop()


def _start(folder: Path, **variables: str) -> Process:
    write_bundle(folder / "bundles", "v1")
    process = Process(
        "-m", "service", "serve", "--bundle-dir", str(folder / "bundles"), "--port", "0",
        STAMP_HISTORY_URL="memory://", **variables,
    )  # fmt: skip
    process.until_ready()
    return process


def shown(page: Page, of: str) -> list[str]:
    """Ids of the items in one of the page's two lists."""
    ids = page.locator(f"#{of} li").evaluate_all("lines => lines.map((line) => line.dataset.item)")
    return [str(item_id) for item_id in ids]


def test_a_guest_builds_a_history_and_sees_what_sap_kept(page: Page, service: Process) -> None:
    """Popular items first; with a history the model's, the same as the API's."""
    page.goto(service.url)
    expect(page.locator("#badges")).to_contain_text("popular items")
    for title in ("i7", "i8", "i9"):
        page.get_by_label("Add an item").fill(title)
        page.locator("#found li").first.click()
        expect(page.locator(f'#history li[data-item="{title}"]')).to_be_visible()
    expect(page.locator("#badges")).to_contain_text("tokens kept")
    page.get_by_label("Items", exact=True).fill("4")
    page.get_by_role("button", name="Recommend").click()
    expect(page.locator("#items li")).to_have_count(4)

    body = {"history": ["i7", "i8", "i9"], "limit": 4, "explain": True}
    answer = httpx.post(f"{service.url}/recommend", json=body).json()
    assert shown(page, "history") == ["i9", "i8", "i7"]
    assert shown(page, "items") == [item["item_id"] for item in answer["items"]]
    assert page.locator("#history .dots .on").count() == answer["explanation"]["tokens_kept"]
    assert page.locator("#items li").first.locator("code").all_inner_texts() == [
        str(code) for code in answer["items"][0]["sid"]
    ]


def test_what_a_user_takes_is_stored_and_not_recommended_again(
    page: Page, service: Process
) -> None:
    """The user in the address, an event by a click, the next recommendation without the item."""
    httpx.post(f"{service.url}/events", json={"events": [{"user_id": "ann/é", "item_id": "i3"}]})
    page.goto(f"{service.url}/?user=ann%2F%C3%A9")
    expect(page.locator("#history li")).to_have_count(1)
    expect(page.locator("#items li")).to_have_count(10)
    first = shown(page, "items")[0]
    page.locator("#items button").first.click()
    expect(page.locator("#history li")).to_have_count(2)

    stored = httpx.get(f"{service.url}/users/ann%2F%C3%A9/history").json()
    assert [item["item_id"] for item in stored["items"]] == ["i3", first]
    expect(page.locator(f'#items li[data-item="{first}"]')).to_have_count(0)
    expect(page.locator("#items li")).to_have_count(10)


def test_a_wrong_filter_is_told_beside_what_was_shown(page: Page, service: Process) -> None:
    """The service's own words; after a correction they are gone."""
    page.goto(service.url)
    expect(page.locator("#items li")).to_have_count(10)
    page.get_by_label("Only items where").fill("colour = 'red'")
    page.get_by_role("button", name="Recommend").click()
    expect(page.get_by_role("alert")).to_contain_text("colour")
    page.get_by_label("Only items where").fill("")
    page.get_by_role("button", name="Recommend").click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_key_is_asked_for_and_kept_in_the_tab(page: Page, tmp_path: Path) -> None:
    """Without it the page says so; with it everything works."""
    service = _start(tmp_path, STAMP_API_KEYS=KEY)
    page.goto(service.url)
    expect(page.get_by_role("alert")).to_contain_text("API key")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#items li")).to_have_count(10)
    expect(page.get_by_role("alert")).to_be_hidden()
    service.stop()


def test_titles_are_shown_as_text(page: Page, tmp_path: Path) -> None:
    """Markup in a title runs nothing."""
    service = _start(tmp_path, STAMP_CATALOG_FILE=str(tmp_path / "catalog.sqlite3"))
    title = "<img src=x onerror=document.title='hit'>"
    httpx.put(f"{service.url}/items/i5", json={"title": title}).raise_for_status()
    page.goto(service.url)
    page.get_by_label("Add an item").fill("onerror")
    page.locator("#found li").first.click()
    expect(page.locator("#history .name")).to_have_text(title)
    assert page.title() == "STAMP Recommender"
    service.stop()


def test_the_api_is_described_without_another_host(page: Page, service: Process) -> None:
    """Every endpoint is listed, and a request can be tried from there."""
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.partition("://")[2].partition("/")[0]))
    page.goto(f"{service.url}/docs")
    expect(page.locator(".opblock")).not_to_have_count(0)
    paths = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    page.locator("#operations-default-live_health_live_get, [id$=-live]").first.click()
    page.get_by_role("button", name="Execute").click()

    expect(page.locator(".live-responses-table")).to_contain_text('"status": "live"')
    assert page.locator(".opblock").count() == sum(len(operations) for operations in paths.values())
    assert {host for host in hosts if host} == {service.url.partition("://")[2]}
