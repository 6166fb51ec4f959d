"""One socket of the load client: HTTP/1.1, one request at a time, a response as plain bytes."""

import asyncio
import re
from typing import cast

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")


class LoadError(Exception):
    """The client could not do its work; says why."""


class Connection(asyncio.Protocol):
    """A socket that stays open; one request at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self._data = b""
        self._response: asyncio.Future[tuple[bytes, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.is_open = True

    def ask(self, request: bytes) -> asyncio.Future[tuple[bytes, bytes]]:
        """Write a request; its response's head in small letters, and its body.

        The future fails with ConnectionError when the connection ends first.
        """
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._response

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._data += data
        head, gap, body = self._data.partition(b"\r\n\r\n")
        if not gap or self._response is None:
            return
        head = head.lower()
        length = _content_length(head)
        if length is None:  # this client knows no other way to find a body's end
            self._response.set_exception(LoadError(f"no Content-Length: {head[:100]!r}"))
        elif len(body) >= length:
            response, self._response, self._data = self._response, None, b""
            response.set_result((head, body))
            if b"\r\nconnection: close" in head:
                self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.is_open = False
        if self._response is not None and not self._response.done():
            self._response.set_exception(ConnectionError(f"connection lost: {exc}"))

    def close(self) -> None:
        """Let go of the socket."""
        self.is_open = False
        self._transport.abort()


def _content_length(head: bytes) -> int | None:
    """The body's declared length."""
    found = CONTENT_LENGTH.search(head)
    return int(found[1]) if found else None
