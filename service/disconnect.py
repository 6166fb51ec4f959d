"""Stop working for a client who left; no framework does so by itself."""

import asyncio

from starlette.types import Receive

from service.errors import ClientClosedRequestError

WATCH_AFTER_S = 0.05
"""Most requests are answered by then, and need no task that watches."""


class CancelledOnDisconnect:
    """Cancels what its block waits for when the client leaves: ClientClosedRequestError then.

    The request's body must have been read. The watching begins WATCH_AFTER_S after the block, and
    ends with it.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._watch is None:
            return
        has_left = self._watch.done()
        self._watch.remove_done_callback(self._cancel)
        self._watch.cancel()
        if has_left and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise ClientClosedRequestError("The client left before the answer.") from None

    def _begin(self) -> None:
        self._watch = asyncio.create_task(_until_disconnect(self._receive))
        self._watch.add_done_callback(self._cancel)

    def _cancel(self, _: "asyncio.Task[None]") -> None:
        self._task.cancel()


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
