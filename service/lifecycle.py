"""Where the service is between start and end; readiness and shutdown go by it."""

from dataclasses import dataclass
from typing import Literal, get_args

State = Literal["loading", "warming", "ready", "draining", "failed"]
STATES: tuple[State, ...] = get_args(State)
Reason = Literal["loading", "warming", "draining", "stalled", "failed"]


@dataclass
class Lifecycle:
    """loading -> warming -> ready, and from any of them to draining or failed, for good."""

    state: State = "loading"
    failure: BaseException | None = None

    def advance(self, state: Literal["warming", "ready"]) -> None:
        """Go on, unless the end has begun meanwhile."""
        if self.state in {"loading", "warming"}:
            self.state = state

    def drain(self) -> None:
        """Begin the end: not ready any more, yet still answering."""
        self.state = "draining"

    def fail(self, error: BaseException) -> None:
        """End it: no model, no service."""
        self.state = "failed"
        self.failure = error
