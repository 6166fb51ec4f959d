"""Request and response bodies. Fields are added, never renamed."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from model.queries import MAX_BOOST
from model.where import MAX_TEXT_LENGTH

MAX_LIMIT = 100
MAX_DEADLINE_MS = 60_000
MAX_BATCH_REQUESTS = 100

Saving = Literal["beam_width", "retention_ratio"]

Identifier = Annotated[str, Field(min_length=1, max_length=256)]


class Filter(BaseModel):
    """Which items may be recommended; all three together."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    allow: Annotated[list[Identifier], Field(max_length=10_000)] | None = Field(
        None, description="The only items to recommend."
    )
    deny: Annotated[list[Identifier], Field(max_length=10_000)] | None = Field(
        None, description="Items never to recommend."
    )
    where: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH)] | None = Field(
        None,
        description="A condition over the catalog's columns, in the syntax of SQL's WHERE.",
        examples=["year >= 1990 AND array_contains(categories, 'Comedy')"],
    )


class BoostRule(BaseModel):
    """Rank some items higher, or lower."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    by: float = Field(
        ge=-MAX_BOOST,
        le=MAX_BOOST,
        allow_inf_nan=False,
        description="Added to the score for ranking: 0.7 ranks an item as if twice as likely.",
    )
    where: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH)] | None = Field(
        None, description="Items that match, like `filter.where`."
    )
    items: Annotated[list[Identifier], Field(max_length=10_000)] | None = Field(
        None, description="These items, of those that match."
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.where is None and self.items is None:
            raise PydanticCustomError("where_or_items", "give where, items or both")
        return self


class DiversityRule(BaseModel):
    """How alike the items may be: those that share the first codes of their semantic ID are."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    max_items: int = Field(ge=1, le=MAX_LIMIT, description="Most items that share them.")
    prefix_length: int = Field(1, ge=1, le=16, description="How many codes they share.")


class RecommendRequest(BaseModel):
    """Who asks, and for how much; at least one of `user_id` and `history` is needed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    user_id: Identifier | None = Field(None, description="Whose stored history to go by.")
    history: Annotated[list[Identifier], Field(max_length=10_000)] | None = Field(
        None, description="Item ids, oldest first; overrides the stored history."
    )
    limit: int = Field(10, ge=1, le=MAX_LIMIT, description="Items to return, at most.")
    exclude_seen: bool = Field(True, description="Never return items of the history.")
    filter: Filter | None = Field(None, description="Which items may be recommended.")
    boosts: Annotated[list[BoostRule], Field(max_length=10)] = Field(
        [], description="What ranks higher or lower; several add up, to 10 at most."
    )
    diversity: DiversityRule | None = Field(None, description="How alike the items may be.")
    explore: int = Field(
        0,
        ge=0,
        le=MAX_LIMIT,
        description="Places for items that nobody had when the model learned, at the end.",
    )
    beam_width: int | None = Field(
        None,
        ge=1,
        description="Prefixes kept per decoding step, at least `limit`; wider is slower.",
    )
    retention_ratio: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the history's tokens to keep: one of those `/info` lists, "
        "to two digits.",
    )
    deadline_ms: int | None = Field(
        None, ge=1, le=MAX_DEADLINE_MS, description="Answer 504 rather than later than this."
    )
    explain: bool = Field(False, description="Add semantic IDs and what was kept of the history.")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.user_id is None and self.history is None:
            raise PydanticCustomError("user_or_history", "give user_id, history or both")
        if self.beam_width is not None and self.beam_width < self.limit:
            raise PydanticCustomError("beam_too_narrow", "beam_width must be at least limit")
        return self


class ModelVersion(BaseModel):
    """Which model answered."""

    name: str
    version: str


class RecommendedItem(BaseModel):
    """One recommended item."""

    item_id: str
    rank: int = Field(description="1 is the best.")
    score: float | None = Field(
        description="Natural-log probability of the item's semantic ID; null unless from the model."
    )
    title: str | None
    boost: float | None = Field(
        None, description="With `boosts`: what they added; ranked by score + boost."
    )
    sid: list[int] | None = Field(
        None, description="With `explain`: the semantic ID, a code a level."
    )
    level_log_probs: list[float] | None = Field(
        None, description="With `explain`: the score's summands, one a level."
    )


class KeptItem(BaseModel):
    """An item of the history that the model still saw after pruning."""

    item_id: str
    num_tokens: int = Field(description="Tokens of the item that were kept.")


class Explanation(BaseModel):
    """What the model saw of the history."""

    tokens_in: int = Field(description="History tokens before pruning.")
    tokens_kept: int = Field(description="History tokens after pruning.")
    kept_history: list[KeptItem] = Field(description="Oldest first.")


class Effort(BaseModel):
    """With what the model searched."""

    beam_width: int
    retention_ratio: float


class RecommendResponse(BaseModel):
    """The items a user is most likely to want next, best first."""

    recommendation_id: str
    model: ModelVersion
    items: list[RecommendedItem]
    source: Literal["model", "popularity"] = Field(
        description="`popularity` when no known item is in the history."
    )
    short: bool = Field(description="Fewer items than `limit` were left to recommend.")
    degraded: list[Literal["history"] | Saving] = Field(
        description="What failed, or was spared for want of time, yet did not stop the answer."
    )
    unknown_items: list[str] = Field(
        description="Items that the request names and this model does not know; skipped."
    )
    effort: Effort | None = Field(None, description="Of an answer from the model.")
    explanation: Explanation | None = Field(None, description="With `explain`, from the model.")


class BatchRequest(BaseModel):
    """Several questions at once; each is a row in the queue, with a deadline of its own."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    requests: Annotated[list[RecommendRequest], Field(min_length=1, max_length=MAX_BATCH_REQUESTS)]


class BatchResult(BaseModel):
    """What one request of a batch would have been answered alone; one of the two is there."""

    status: int = Field(description="The HTTP status it would have had.")
    response: RecommendResponse | None = None
    problem: dict[str, Any] | None = Field(None, description="See Problem.")


class BatchResponse(BaseModel):
    """One result for each request, in their order."""

    results: list[BatchResult]


class Health(BaseModel):
    """What a probe reads when all is well."""

    status: Literal["live", "ready"]


class Limits(BaseModel):
    """What a request may ask for, and what the service takes at once."""

    max_limit: int
    max_beam_width: int
    max_deadline_ms: int
    default_deadline_ms: int
    max_body_bytes: int
    max_queue_rows: int
    max_batch_rows: int
    max_batch_tokens: int


class ModelInfo(ModelVersion):
    """The model that answers now."""

    metrics: dict[str, float] = Field(
        description="Measured on the test split when it was exported."
    )
    num_items: int
    retention_ratios: list[float] = Field(description="Those a request may ask for; 1 keeps all.")
    device: str
    dtype: str
    kernels: str = Field(
        description="What computes the model's blocks: compiled code for a kind of processor, "
        "such as avx512, or torch."
    )
    compiled_batch_sizes: list[int] = Field(
        description="Batch sizes whose passes torch.compile compiled; none if it is not used."
    )


class Info(BaseModel):
    """The running service."""

    service: str
    service_version: str
    model: ModelInfo
    limits: Limits


class FieldError(BaseModel):
    """One field that is wrong."""

    pointer: str = Field(description='JSON pointer into the body; "" is the body itself.')
    code: str
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details: what every failure is answered with."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable; docs/operations.md lists them.")
    request_id: str
    errors: list[FieldError]
    reason: Literal["loading", "warming", "draining", "stalled", "failed"] | None = Field(
        None, description="With code `not_ready`: why."
    )
    applied: int | None = Field(
        None, description="With `POST /events`: how many events were applied nevertheless."
    )
    not_applied: list[int] | None = Field(
        None, description="With `POST /events`: places (from 0) of events not known to be applied."
    )
