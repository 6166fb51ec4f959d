"""Stop working for a client who left; no framework does so by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from service.errors import ClientClosedRequestError


@asynccontextmanager
async def cancelled_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel what the block waits for when the client leaves: ClientClosedRequestError then.

    The request's body must have been read; the watching ends with the block.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = asyncio.create_task(_until_disconnect(receive))

    def cancel(_: asyncio.Task[None]) -> None:
        task.cancel()

    watch.add_done_callback(cancel)
    try:
        yield
    except asyncio.CancelledError:
        if not watch.done():
            raise
        task.uncancel()
        raise ClientClosedRequestError("The client left before the answer.") from None
    finally:
        watch.remove_done_callback(cancel)
        watch.cancel()


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
