"""Bodies of the endpoints about items. Fields are added, never renamed."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from pydantic_core import PydanticCustomError

MAX_ATTRIBUTES = 100
MAX_VECTOR = 8_192

Text = Annotated[str, Field(max_length=10_000)]
Attribute = Text | int | float | bool | list[Text] | None
Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]


class ItemBody(BaseModel):
    """What is known of an item."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    title: Text | None = Field(None, description="What it is called.")
    attributes: Annotated[dict[str, Attribute], Field(max_length=MAX_ATTRIBUTES)] = Field(
        {}, description="Columns of the catalog; those not named become null."
    )
    vector: Annotated[list[Number], Field(min_length=1, max_length=MAX_VECTOR)] | None = Field(
        None,
        description="What a new item is placed by: made like those the model was trained with.",
    )

    @field_validator("attributes")
    @classmethod
    def _check_names(cls, attributes: dict[str, Attribute]) -> dict[str, Attribute]:
        if attributes.keys() & {"item_id", "title", "popularity"}:
            raise PydanticCustomError("not_an_attribute", "item_id, title, popularity are none")
        return attributes


class Item(BaseModel):
    """An item of the catalog."""

    item_id: str
    title: str | None
    attributes: dict[str, JsonValue]
    popularity: int = Field(description="Interactions in training.")
    sid: list[int] = Field(description="Its semantic ID, a code a level.")
    available: bool = Field(description="False: taken out, nobody is recommended it.")


class ItemPage(BaseModel):
    """Some of the catalog, or of the items looked for."""

    items: list[Item]
    total: int = Field(description="Items in the catalog, or found, those taken out included.")
