"""All that decides what a client sends, in one file: whoever has it can send the same again."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtest.errors import LoadTestError
from loadtest.schedules import Schedule, Shape
from loadtest.traffic import DEFAULT_MIX, Kind, Traffic, Visitor

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Plan(BaseModel):
    """One run of the client."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arrivals: Literal["open", "closed"]
    shape: Shape = "steady"
    rate: float = Field(0.0, ge=0, allow_inf_nan=False, description="Requests/s; open loop.")
    users: int = Field(ge=1, description="Closed loop: users. Open: most requests in flight.")
    warmup_s: float = Field(3.0, ge=0)
    duration_s: float = Field(gt=0)
    drain_s: float = Field(10.0, ge=0, description="Wait for answers so long after the load.")
    seed: int = 0
    zipf: float = Field(1.07, ge=0, le=10)
    limit: int = Field(10, ge=1)
    mix: dict[Kind, Weight] = DEFAULT_MIX
    wheres: tuple[str, ...] = ()
    visitors: tuple[Visitor, ...] = Field(min_length=1, description="The most frequent first.")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.arrivals == "open" and self.rate == 0:
            raise ValueError("an open loop needs a rate above 0")
        if sum(self.mix.values()) == 0:
            raise ValueError("the mix has no weight above 0")
        return self

    @property
    def schedule(self) -> Schedule:
        """When the load is how high."""
        return Schedule(self.shape, self.warmup_s, self.duration_s)

    def traffic(self) -> Traffic:
        """What is asked, from the beginning."""
        return Traffic(
            self.visitors,
            self.wheres,
            self.mix,
            zipf=self.zipf,
            limit=self.limit,
            seed=self.seed,
        )


def read_plan(path: Path) -> Plan:
    """The plan in a file, or LoadTestError."""
    try:
        return Plan.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise LoadTestError(f"{path}: not a plan of a load test") from error


def mix_of(text: str) -> dict[Kind, float]:
    """The mix in e.g. "known=3,events=1", or LoadTestError."""
    mix: dict[Kind, float] = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        kind = next((kind for kind in DEFAULT_MIX if kind == name.strip()), None)
        try:
            mix[kind if kind is not None else _refuse(name)] = float(weight)
        except ValueError as error:
            raise LoadTestError(f"--mix: {part!r} is not KIND=WEIGHT") from error
    return mix


def _refuse(name: str) -> Kind:
    known = ", ".join(DEFAULT_MIX)
    raise LoadTestError(f"--mix: {name.strip()!r} is no kind of request; there are {known}")
