"""Bodies about the versions of the model."""

from pydantic import BaseModel, Field

from service.plan import Plan


class LoadedModel(BaseModel):
    """A version that serves, or could at once."""

    version: str
    roles: list[str] = Field(description="Of active, split, shadow and previous, those it has.")
    num_items: int
    waiting: int = Field(description="Requests in its queue.")


class AvailableModel(BaseModel):
    """A version in the bundle folder."""

    name: str
    version: str
    created_at: str
    metrics: dict[str, float]


class ModelList(BaseModel):
    """Which versions serve, which are loaded, and which there are."""

    active: str
    previous: str | None = Field(description="What a rollback goes back to.")
    plan: Plan
    loaded: list[LoadedModel]
    available: list[AvailableModel] = Field(description="The newest first.")


class ModelsChanged(ModelList):
    """The models after a change."""

    plan_kept: bool = Field(
        description="Whether the plan is in its file, so that a restart and other replicas follow."
    )
