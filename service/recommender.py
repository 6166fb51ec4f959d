"""The use case: request -> history -> batch of the model -> items, or what cold users get."""

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from secrets import token_hex

import structlog

from model.catalog import Catalog
from model.engine import DEFAULT_BEAM_WIDTH, Answer, Engine, Query, RankedItem
from model.errors import FilterError
from model.queries import Boost, Diversity
from service.batcher import Batcher, Outcome
from service.errors import (
    ClientClosedRequestError,
    HistoryStoreError,
    InvalidRequestError,
    ServiceError,
)
from service.history import HistoryStore
from service.metrics import Metrics
from service.schemas import (
    BoostRule,
    Effort,
    Explanation,
    Filter,
    KeptItem,
    ModelVersion,
    RecommendedItem,
    RecommendRequest,
    RecommendResponse,
    Saving,
)

log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """A request with its history as the model's catalogue knows it.

    `query.history` may be empty; `unknown_items` is what the request itself named beyond; `saved`
    is where `query` has less than the default, for want of time.
    """

    request: RecommendRequest
    query: Query
    unknown_items: list[str]
    history_failed: bool
    saved: tuple[Saving, ...] = ()


@dataclass(frozen=True)
class Result:
    """What the model thread gives back: an answer, or for a cold user popular item indices."""

    job: Job
    answer: Answer | None
    popular: list[int]


async def prepare(
    store: HistoryStore,
    catalog: Catalog,
    default_beam_width: int | None,
    requests: Sequence[RecommendRequest],
) -> list[Job]:
    """One job a request; stored histories come in one round trip, those that fail are empty."""
    user_ids = [request.user_id for request in requests if request.history is None]
    stored = iter(await _stored(store, [user_id for user_id in user_ids if user_id is not None]))
    jobs = []
    for request in requests:
        item_ids = request.history if request.history is not None else next(stored)
        query, unknown = _query(catalog, request, item_ids or (), default_beam_width)
        jobs.append(Job(request, query, unknown, history_failed=item_ids is None))
    return jobs


async def _stored(store: HistoryStore, user_ids: Sequence[str]) -> list[list[str] | None]:
    """These users' histories, None for each that the store does not give."""
    if not user_ids:
        return []
    try:
        histories = await store.get_many(user_ids)
    except HistoryStoreError as error:
        log.warning("history_store_failed", error=error.detail, users=len(user_ids))
        return [None] * len(user_ids)
    if num_unreadable := histories.count(None):
        log.warning("histories_unreadable", users=num_unreadable)
    return histories


def compute(engine: Engine, jobs: Sequence[Job]) -> list[Result]:
    """One result a job; those with a history share one batch of the model."""
    queries = [job.query for job in jobs if job.query.history]
    answers = iter(engine.recommend(queries) if queries else [])
    return [
        Result(job, next(answers), [])
        if job.query.history
        else Result(job, None, engine.popular(job.query))
        for job in jobs
    ]


def num_tokens(engine: Engine, job: Job) -> int:
    """History tokens the job brings into a batch."""
    config = engine.manifest.model
    return min(len(job.query.history), config.max_history_items) * config.tokens_per_item


@dataclass(frozen=True)
class Recommender:
    """One engine, and the batcher that feeds it."""

    engine: Engine
    batcher: Batcher[RecommendRequest, Job, Result]
    max_beam_width: int
    default_deadline_ms: int
    metrics: Metrics = field(default_factory=Metrics)

    async def recommend(
        self, request: RecommendRequest, *, arrived_s: float, group: Hashable | None = None
    ) -> tuple[RecommendResponse, Outcome[Result]]:
        """The response, and where its time went; the deadline counts from `arrived_s`.

        `arrived_s` is on time.perf_counter's clock; `group` as for Batcher.submit. Raises
        InvalidRequestError and what Batcher.submit raises.
        """
        self._check(request)
        deadline_s = arrived_s + (request.deadline_ms or self.default_deadline_ms) / 1000
        try:
            timeout_s = deadline_s - time.perf_counter()
            outcome = await self.batcher.submit(request, timeout_s=timeout_s, group=group)
        except (ServiceError, asyncio.CancelledError) as error:
            self.metrics.row_unanswered(getattr(error, "code", ClientClosedRequestError.code))
            raise
        response = self._response(outcome.answer)
        self._count(response, outcome)
        return response, outcome

    def _count(self, response: RecommendResponse, outcome: Outcome[Result]) -> None:
        stages_ms = (outcome.queue_ms, outcome.history_ms, outcome.model_ms)
        self.metrics.row_answered(
            response.model.version,
            response.source,
            response.degraded,
            stages_ms,
            short=response.short,
        )
        answer, query = outcome.answer.answer, outcome.answer.job.query
        if answer is not None:
            beam_width = max(query.beam_width or DEFAULT_BEAM_WIDTH, query.limit)
            self.metrics.row_decoded(answer.tokens_in, answer.tokens_kept, beam_width)

    def _check(self, request: RecommendRequest) -> None:
        """Refuse what this bundle or these settings do not allow."""
        if self.engine.validated_ratio(request.retention_ratio) is None:
            valid = ", ".join(f"{ratio:.3g}" for ratio in self.engine.retention_ratios)
            raise _invalid("retention_ratio", f"must be one of {valid}")
        if request.beam_width is not None and request.beam_width > self.max_beam_width:
            raise _invalid("beam_width", f"must be at most {self.max_beam_width}")
        wheres = {f"boosts/{n}/where": boost.where for n, boost in enumerate(request.boosts)}
        wheres["filter/where"] = request.filter.where if request.filter else None
        for name, where in wheres.items():
            try:
                self.engine.check_filter(where)
            except FilterError as error:
                raise _invalid(name, str(error)) from error

    def _response(self, result: Result) -> RecommendResponse:
        job, answer = result.job, result.answer
        if answer is None:
            items = [
                self._item(index, rank, None) for rank, index in enumerate(result.popular, start=1)
            ]
        else:
            items = [
                self._ranked_item(ranked, rank, explain=job.request.explain)
                for rank, ranked in enumerate(answer.items, start=1)
            ]
        manifest = self.engine.manifest
        response = RecommendResponse(
            recommendation_id=token_hex(16),
            model=ModelVersion(name=manifest.name, version=manifest.version),
            items=items,
            source="popularity" if answer is None else "model",
            short=len(items) < job.request.limit,
            degraded=["history", *job.saved] if job.history_failed else [*job.saved],
            unknown_items=job.unknown_items,
        )
        if answer is not None:
            shape = self.engine.shape(job.query)
            response.effort = Effort(
                beam_width=shape.beam_width, retention_ratio=shape.retention_ratio
            )
        if answer is not None and answer.kept_history is not None:
            response.explanation = self._explanation(job, answer, answer.kept_history)
        return response

    def _item(self, item_index: int, rank: int, score: float | None) -> RecommendedItem:
        catalog = self.engine.catalog
        return RecommendedItem(
            item_id=catalog.item_ids[item_index],
            rank=rank,
            score=score,
            title=catalog.titles[item_index],
        )

    def _ranked_item(self, ranked: RankedItem, rank: int, *, explain: bool) -> RecommendedItem:
        item = self._item(ranked.item_index, rank, ranked.score)
        if ranked.boost:
            item.boost = ranked.boost
        if explain and ranked.level_log_probs is not None:
            item.sid = list(ranked.sid)
            item.level_log_probs = list(ranked.level_log_probs)
        return item

    def _explanation(
        self, job: Job, answer: Answer, kept_history: Sequence[tuple[int, int]]
    ) -> Explanation:
        item_ids = self.engine.catalog.item_ids
        kept = [
            KeptItem(item_id=item_ids[job.query.history[position]], num_tokens=num_tokens)
            for position, num_tokens in kept_history
        ]
        return Explanation(
            tokens_in=answer.tokens_in, tokens_kept=answer.tokens_kept, kept_history=kept
        )


class _Names:
    """Turns item ids into indices, and remembers those that the catalog does not know."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.unknown: dict[str, None] = {}

    def known(self, item_ids: Sequence[str]) -> tuple[int, ...]:
        """The indices of the known ones, in order."""
        indices = [*map(self._catalog.index_of, item_ids)]
        if None in indices:
            pairs = zip(item_ids, indices, strict=True)
            self.unknown.update((item_id, None) for item_id, index in pairs if index is None)
        return tuple(index for index in indices if index is not None)


def _query(
    catalog: Catalog,
    request: RecommendRequest,
    item_ids: Sequence[str],
    default_beam_width: int | None,
) -> tuple[Query, list[str]]:
    """What the engine is asked, and the ids that the request names and the catalog does not know.

    The default beam width gives way to a higher limit.
    """
    names = _Names(catalog)
    history = names.known(item_ids)
    if request.history is None:
        names = _Names(catalog)
    beam_width = request.beam_width
    if beam_width is None and default_beam_width is not None:
        beam_width = max(request.limit, default_beam_width)
    rules, diversity = request.filter or Filter(), request.diversity
    query = Query(
        history=history,
        limit=request.limit,
        beam_width=beam_width,
        retention_ratio=request.retention_ratio,
        exclude_seen=request.exclude_seen,
        explain=request.explain,
        where=rules.where,
        allow=None if rules.allow is None else names.known(rules.allow),
        deny=names.known(rules.deny or ()),
        boosts=tuple(_boost(names, rule) for rule in request.boosts),
        diversity=None if diversity is None else Diversity(**diversity.model_dump()),
        explore=request.explore,
    )
    return query, list(names.unknown)


def _boost(names: _Names, rule: BoostRule) -> Boost:
    return Boost(rule.by, rule.where, None if rule.items is None else names.known(rule.items))


def _invalid(name: str, detail: str) -> InvalidRequestError:
    errors = [{"pointer": f"/{name}", "code": "not_allowed", "detail": detail}]
    return InvalidRequestError(f"/{name}: {detail}", errors=errors)
