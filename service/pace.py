"""Pace: refusals leave at most so many a second, so that refusing does not become all there is."""

import asyncio

PER_S = 1000.0
MAX_WAIT_S = 0.25


class Pace:
    """Lets callers go on one after the other, in the order they come.

    Whoever is refused at once asks again at once. A hundred such callers keep the event loop busy
    with thousands of refusals a second, and the model's thread, which needs the interpreter for
    every operation, gets next to nothing done.
    """

    def __init__(self) -> None:
        self._next_s = 0.0

    async def wait(self, timeout_s: float) -> None:
        """Until it is this caller's turn, at most MAX_WAIT_S and half of `timeout_s`."""
        now_s = asyncio.get_running_loop().time()
        at_s = min(max(now_s, self._next_s), now_s + MAX_WAIT_S)
        self._next_s = at_s + 1 / PER_S
        if wait_s := min(at_s - now_s, timeout_s / 2):
            await asyncio.sleep(wait_s)
