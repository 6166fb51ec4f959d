"""A server that does nothing but answer: what the client can do at most. python -m loadtest.echo.

Prints the port it chose, then answers every request with the same recommendation.
"""

import asyncio
import json
import sys

ITEMS = [
    {
        "item_id": str(rank),
        "rank": rank,
        "score": -2.917320728302002 - rank,
        "title": f"Item {rank}",
    }
    for rank in range(1, 11)
]
ANSWER = json.dumps(
    {
        "recommendation_id": "0" * 32,
        "model": {"name": "echo", "version": "1"},
        "items": ITEMS,
        "source": "model",
        "short": False,
        "degraded": [],
        "unknown_items": [],
    }
).encode()
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
) + ANSWER


class Echo(asyncio.Protocol):
    """One connection, kept alive; requests may arrive in any pieces."""

    def __init__(self, response: bytes = RESPONSE) -> None:
        self._response = response
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._received += data
        while (head_ends := self._received.find(b"\r\n\r\n")) >= 0:
            whole = head_ends + 4 + _body_length(self._received[:head_ends])
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            self._transport.write(self._response)


def _body_length(head: bytes) -> int:
    """What Content-Length says; 0 without one."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve() -> None:
    """Answer until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
