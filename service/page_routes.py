"""The playground: a page that tries the service in a browser. Its files are read once."""

import mimetypes
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from service.errors import PathNotFoundError

FOLDER = Path(__file__).with_name("page")
START = "index.html"


def page_router() -> APIRouter:
    """Routes of the page and its files; they are no part of the API."""
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.is_file()}
    router = APIRouter(redirect_slashes=False, include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        """The page."""
        return Response(files[START], media_type="text/html")

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        """A file that the page loads."""
        if name not in files:
            raise PathNotFoundError("The page has no such file.")
        media_type, _ = mimetypes.guess_type(name)
        return Response(files[name], media_type=media_type)

    return router
