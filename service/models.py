"""Models: the versions that serve, and how one takes over from another while requests come in.

What requests look at is one immutable Lineup, replaced in one assignment: a request sees the old
one or the new one, whole. A version is loaded and warmed before it is in a lineup, and let go of
when it is in none and has answered what it was asked.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

import structlog

from model.engine import Engine
from model.errors import ModelError
from service.batcher import Outcome
from service.bundles import BundleFolder, age
from service.catalog_journal import CatalogJournal
from service.errors import (
    ModelUnusableError,
    NoPreviousModelError,
    ServiceError,
)
from service.lineup import Draft, Lineup, named
from service.plan import NEWEST, Plan, PlanFile
from service.recommender import Result
from service.schemas import RecommendRequest, RecommendResponse
from service.serving import Serving, Workshop
from service.trials import Trials

IDLE_CHECK_S = 0.05

Fingerprint = tuple[tuple[str, int, int], ...]

log = structlog.get_logger()


@dataclass
class Models:
    """The one place where versions come and go. `start` before anything else.

    Args:
        folder: of the versions.
        plan_file: what should serve.
        workshop: where versions are loaded.
        journal: changes to the catalog, for engines that are loaded later.
        on_switch: told of every version that becomes active.
        trials: of shadows and beams.
    """

    folder: BundleFolder
    plan_file: PlanFile
    workshop: Workshop
    journal: CatalogJournal | None
    on_switch: Callable[[Serving], None]
    trials: Trials
    editing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the catalogs of loaded engines change, and while an engine joins them."""
    _lineup: Lineup | None = None
    _planning: asyncio.Lock = field(default_factory=asyncio.Lock)
    _plan_read: Plan | None = None
    _rejected: dict[str, Fingerprint] = field(default_factory=dict)
    _retiring: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, on_loaded: Callable[[], None] = lambda: None) -> None:
        """Load what the plan file asks for; raises what the loader does, and ModelNotFoundError."""
        self._plan_read = self.plan_file.read()
        try:
            await self._apply(self._plan_read, on_loaded)
        except ModelUnusableError as error:
            raise error.__cause__ or error from None

    async def close(self) -> None:
        """Let go of everything."""
        await self.trials.close()
        for task in self._retiring:
            task.cancel()
        if self._lineup is not None:
            for serving in self._lineup.serving.values():
                await serving.close()

    @property
    def lineup(self) -> Lineup:
        """Who serves now; there is one after `start`."""
        assert self._lineup is not None
        return self._lineup

    async def recommend(
        self,
        request: RecommendRequest,
        *,
        arrived_s: float,
        pinned: str | None = None,
        group: Hashable | None = None,
    ) -> tuple[RecommendResponse, Outcome[Result]]:
        """The response of the version whose turn it is; see Recommender.recommend.

        Args:
            request: who asks, and for how much.
            arrived_s: on time.perf_counter's clock.
            pinned: the version that must answer; ModelNotLoadedError if it does not serve.
            group: the same for requests that came together; None = came alone.
        """
        lineup = self.lineup
        serving = lineup.choose(request.user_id, pinned)
        response, outcome = await serving.recommender.recommend(
            request, arrived_s=arrived_s, group=group
        )
        shadow = lineup.plan.shadow
        if shadow is not None:
            self.trials.shadow(lineup.serving[shadow.version], shadow.percent, request, response)
        if self.trials.beam_check_percent:
            self.trials.check_beam(serving, outcome.answer.job.query, response)
        return response, outcome

    def engines(self) -> list[Engine]:
        """Of all loaded versions, the active one's first."""
        active = self.lineup.active
        others = [one for one in self.lineup.serving.values() if one is not active]
        return [one.engine for one in (active, *others)]

    def num_waiting(self) -> int:
        """Rows that wait for any version."""
        return sum(one.recommender.batcher.num_waiting() for one in self._loaded())

    def oldest_wait_s(self) -> float:
        """For how long the oldest of them has been waiting."""
        return max(one.recommender.batcher.oldest_wait_s() for one in self._loaded())

    def busy_s(self) -> float:
        """For how long the longest of the running batches has been running."""
        return max(one.recommender.batcher.busy_s() for one in self._loaded())

    async def activate(self, version: str) -> bool:
        """Let a version serve, or `newest`; whether that is kept in the plan file.

        Raises ModelNotFoundError or ModelUnusableError; nothing has changed then.
        """
        async with self._planning:
            plan = self.lineup.plan
            split = {name: share for name, share in plan.split.items() if name != version}
            return await self._follow(plan.model_copy(update={"active": version, "split": split}))

    async def roll_back(self) -> bool:
        """Let the version serve that did before; NoPreviousModelError if there is none."""
        previous = self.lineup.previous
        if previous is None:
            raise NoPreviousModelError("No other version has served since the service started.")
        return await self.activate(previous)

    async def follow(self, plan: Plan) -> bool:
        """Carry out a whole plan; see `activate`."""
        async with self._planning:
            return await self._follow(plan)

    async def poll(self, every_s: float) -> None:
        """Look for another plan or a newer version again and again, and let it serve."""
        told = None
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.look()
                told = None
            except (ModelError, ServiceError) as error:
                reason = error.detail if isinstance(error, ServiceError) else str(error)
                if reason != told:
                    log.warning("plan_not_applied", error=reason)
                told = reason
            except Exception:
                log.exception("plan_not_applied")

    async def look(self) -> None:
        """Carry out the plan file if somebody changed it, and load the newest version if asked to.

        Raises BundleError and ServiceError; what served goes on serving then.
        """
        async with self._planning:
            plan = self.plan_file.read()
            changed = plan != self._plan_read
            self._plan_read = plan
            await self._apply(plan if changed else self.lineup.plan)

    async def _follow(self, plan: Plan) -> bool:
        self._rejected.clear()
        await self._apply(plan)
        if kept := self.plan_file.write(plan):
            self._plan_read = plan
        return kept

    async def _apply(self, plan: Plan, on_loaded: Callable[[], None] = lambda: None) -> None:
        """Load what is missing, then replace the lineup; or raise, and all is as before."""
        before = self._lineup
        draft = Draft(self.workshop, on_loaded, dict(before.serving) if before else {})
        try:
            active = await self._active(plan, draft)
            versions = {version.name: version for version in self.folder.versions()}
            others = [*plan.split, *([plan.shadow.version] if plan.shadow else [])]
            for name in others:
                await draft.take(named(versions, draft.serving, name))
            async with self.editing:
                if self.journal is not None:
                    for serving in draft.fresh:
                        await self.workshop.replay(self.journal, serving.engine)
                self._replace(plan, active, draft, {active.version.name, *others})
        except BaseException:
            for serving in draft.fresh:
                await serving.close()
            raise

    def _replace(self, plan: Plan, active: Serving, draft: Draft, names: set[str]) -> None:
        """Let the new lineup serve, from the next request on."""
        before = self._lineup
        previous = before.previous if before else None
        if before is not None and before.active is not active:
            previous = before.active.version.name
        names |= {previous} if previous is not None else set()
        serving = {name: one for name, one in draft.serving.items() if name in names}
        self._lineup = Lineup(plan, active, serving, previous)
        if before is None or before.active is not active:
            self.on_switch(active)
            log.info("model_switched", version=active.version.name, previous=previous)
        for name in draft.serving.keys() - serving.keys():
            self._retire(draft.serving[name])

    async def _active(self, plan: Plan, draft: Draft) -> Serving:
        """The version that the plan wants to serve; of the newest ones the first that loads."""
        if plan.active != NEWEST:
            versions = {version.name: version for version in self.folder.versions()}
            return await draft.take(named(versions, draft.serving, plan.active))
        now = self._lineup.active if self._lineup is not None else None
        failure: ModelUnusableError | None = None
        for version in self.folder.require() if now is None else self.folder.versions():
            if now is not None and age(version) <= age(now.version):
                break
            if self._rejected.get(version.name) == version.fingerprint():
                continue
            try:
                return await draft.take(version)
            except ModelUnusableError as error:
                log.warning("model_unusable", version=version.name, error=error.detail)
                self._rejected[version.name] = version.fingerprint()
                failure = failure or error
        if now is None:
            raise failure or ModelUnusableError("no version could be loaded")
        return now

    def _loaded(self) -> Iterable[Serving]:
        return self.lineup.serving.values() if self._lineup is not None else ()

    def _retire(self, serving: Serving) -> None:
        """Let go of a version once it has answered what it was asked."""

        async def when_idle() -> None:
            while not serving.is_idle():  # noqa: ASYNC110  # happens once a switch
                await asyncio.sleep(IDLE_CHECK_S)
            await serving.close()

        task = asyncio.create_task(when_idle())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
