"""The page's files: what is served, how, and when it is not."""

import re

from tests.service.conftest import Running, Serve


async def test_the_description_of_the_api_brings_its_own_files(running: Running) -> None:
    """Also where the playground is switched off; scripts run from files only."""
    page = await running.client.get("/docs")
    names = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    files = [await running.client.get(name) for name in names]

    assert len(files) == 3
    assert {file.status_code for file in files} == {200}
    assert "SwaggerUIBundle" in files[1].text
    assert "script-src" not in page.headers["content-security-policy"]


async def test_the_page_names_only_files_that_are_served(running: Running) -> None:
    """Each with the type a browser insists on, under the policy for pages."""
    page = await running.client.get("/")
    names = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    scripts = [name for name in names if name.endswith(".js")]
    script = await running.client.get(scripts[0])
    imported = re.findall(r'from "\./([^"]+)"', script.text)
    files = [await running.client.get(name) for name in names]
    files += [await running.client.get(f"/static/{name}") for name in imported]

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert len(files) == 4
    assert {file.status_code for file in files} == {200}
    assert {file.headers["content-type"].partition(";")[0] for file in files} == {
        "text/css",
        "text/javascript",
    }
    assert {file.headers["x-content-type-options"] for file in files} == {"nosniff"}


async def test_the_page_is_no_part_of_the_api_and_other_files_are_not_found(
    running: Running,
) -> None:
    """A problem, as everywhere; no path leads out of the folder."""
    described = (await running.client.get("/openapi.json")).json()["paths"]
    missing = await running.client.get("/static/other.js")
    outside = await running.client.get("/static/..%2Fapp.py")

    assert not {"/", "/static/{name}"} & described.keys()
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert outside.status_code == 404


async def test_the_page_can_be_switched_off(serve: Serve) -> None:
    """Then there is nothing at all."""
    async with serve(page=False) as running:
        page = await running.client.get("/")
        script = await running.client.get("/static/page.js")

    assert (page.status_code, script.status_code) == (404, 404)
