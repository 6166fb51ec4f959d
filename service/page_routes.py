"""Pages for people: the playground at /, the API's description at /docs. Files are read once."""

import mimetypes
from collections.abc import Sequence
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter
from fastapi.responses import Response

from service.errors import PathNotFoundError

FOLDER = Path(__file__).with_name("page")
SWAGGER = Path(fastapi_offline.__file__).with_name("static")
PLAYGROUND = ("index.html", "page.css", "page.js", "api.js", "view.js")
DOCS = ("docs.html", "docs.js")
SWAGGER_UI = ("swagger-ui.css", "swagger-ui-bundle.js")


def page_router() -> APIRouter:
    """Routes of the playground and its files; they are no part of the API."""
    return _router("/", "/static", [FOLDER / name for name in PLAYGROUND])


def docs_router() -> APIRouter:
    """Routes of the API's description and its files, none of which comes from another host."""
    return _router(
        "/docs",
        "/docs",
        [*(FOLDER / name for name in DOCS), *(SWAGGER / name for name in SWAGGER_UI)],
    )


def _router(path: str, folder: str, files_of_page: Sequence[Path]) -> APIRouter:
    """A page, the first of the files, at a path, and the files it loads in a folder."""
    files = {file.name: file.read_bytes() for file in files_of_page}
    page_body = files.pop(files_of_page[0].name)
    router = APIRouter(redirect_slashes=False, include_in_schema=False)

    @router.get(path)
    async def page() -> Response:
        """The page."""
        return Response(page_body, media_type="text/html")

    @router.get(folder + "/{name}")
    async def static(name: str) -> Response:
        """A file that the page loads."""
        if name not in files:
            raise PathNotFoundError("The page has no such file.")
        media_type, _ = mimetypes.guess_type(name)
        return Response(files[name], media_type=media_type)

    return router
