"""Bodies of the endpoints about histories. Fields are added, never renamed."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.schemas import Identifier

MAX_EVENTS = 1_000
MAX_EPOCH_MS = 253_402_300_799_999  # the end of the year 9999
RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", flags=re.ASCII
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _epoch_ms(value: Any) -> int | None:
    """The time in ms since 1970, from that itself or from RFC 3339."""
    if value is None or (
        isinstance(value, int) and 0 <= value <= MAX_EPOCH_MS and value is not True
    ):
        return value
    try:
        if isinstance(value, str) and RFC_3339.fullmatch(value):
            since = datetime.fromisoformat(value.upper()) - EPOCH
            return round(since.total_seconds() * 1000)
    except ValueError:
        pass  # a day or an hour that does not exist
    raise PydanticCustomError("timestamp", "give RFC 3339 with an offset, or ms since 1970")


Timestamp = Annotated[
    int | None,
    BeforeValidator(_epoch_ms),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "integer", "minimum": 0, "maximum": MAX_EPOCH_MS},
                {"type": "null"},
            ]
        }
    ),
]


class Event(BaseModel):
    """A user had to do with an item."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    user_id: Identifier
    item_id: Identifier = Field(description="May be unknown to the model that answers now.")
    timestamp: Timestamp = Field(
        None, description="RFC 3339, or ms since 1970; the time of arrival when not given."
    )
    event_id: Identifier | None = Field(
        None, description="The same event of the same user is applied once within 24 hours."
    )


class EventsRequest(BaseModel):
    """Events of any users."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    events: Annotated[list[Event], Field(min_length=1, max_length=MAX_EVENTS)]


class EventsResponse(BaseModel):
    """What became of the events."""

    applied: int = Field(description="Events that are now in the histories.")
    duplicates: int = Field(description="Events that had been applied before.")
    unknown_items: list[str] = Field(
        description="Items that this model does not know; kept for one that does."
    )


class HistoryItem(BaseModel):
    """One item of a history."""

    item_id: str
    title: str | None = Field(
        description="Null when this model does not know the item, or no title."
    )


class UserHistory(BaseModel):
    """What the store knows of a user."""

    user_id: str
    num_items: int = Field(description="Items in the history, of which `items` are the newest.")
    items: list[HistoryItem] = Field(description="Oldest first.")
