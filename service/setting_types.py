"""Types of settings, which say what values there are."""

from typing import Annotated

from limits import parse
from pydantic import AfterValidator, Field

PositiveInt = Annotated[int, Field(ge=1)]


def _rate(text: str) -> str:
    """The text, if it is a rate, or ValueError."""
    parse(text)
    return text


Rate = Annotated[str, AfterValidator(_rate)]


def _batch_sizes(text: str) -> str:
    """The numbers ascending, each once, or ValueError."""
    sizes = sorted({int(size) for size in text.split(",")})
    if sizes[0] < 1:
        raise ValueError("a batch has at least one row")
    return ",".join(map(str, sizes))


BatchSizes = Annotated[str, AfterValidator(_batch_sizes)]
