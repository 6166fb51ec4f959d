"""Serving: one loaded version with its queue; Workshop: where a version becomes one."""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model.buckets import Graphs
from model.engine import DEFAULT_BEAM_WIDTH, Answer, Engine, Query
from service.batcher import Batcher, BatchLimits
from service.bundles import Version
from service.catalog_journal import CatalogJournal
from service.cost import CostModel
from service.dial import Dial
from service.forecast import Average
from service.history import HistoryStore
from service.metrics import Metrics
from service.prediction import Prediction
from service.recommender import Job, Recommender, Result, compute, num_tokens, prepare
from service.schemas import RecommendRequest
from service.settings import Settings
from service.turns import Turns

MAX_CHECKS_WAITING = 4
GC_THRESHOLDS = (10_000, 20, 20)  # Python's 700, 10, 10 look at requests' objects too often

EngineLoader = Callable[[Settings, Path], Engine]
Checker = Batcher[Query, Query, Answer]


def load_engine(settings: Settings, folder: Path) -> Engine:
    """The engine of a version's folder, or BundleError; ModelError if torch.compile fails."""
    graphs = None
    if settings.compiled_batch_sizes:
        beam_width = settings.default_beam_width or DEFAULT_BEAM_WIDTH
        graphs = Graphs(settings.compiled_batch_sizes, beam_width)
    return Engine.load(
        folder,
        device=settings.device,
        dtype=settings.dtype,
        num_threads=settings.num_threads,
        cache_bytes=settings.prompt_cache_mb * 10**6,
        graphs=graphs,
    )


@dataclass(frozen=True)
class Serving:
    """A version that is loaded, warm, and takes requests.

    Args:
        version: what was loaded.
        recommender: that answers.
        checker: searches single queries without hurry, behind the requests.
        parts: what ends with it.
    """

    version: Version
    recommender: Recommender
    checker: Checker
    parts: AsyncExitStack

    @property
    def engine(self) -> Engine:
        """Its engine."""
        return self.recommender.engine

    def is_idle(self) -> bool:
        """Whether nothing waits in its queues and nothing is being computed."""
        queues = (self.recommender.batcher, self.checker)
        return all(queue.num_waiting() == 0 and queue.busy_s() == 0.0 for queue in queues)

    async def close(self) -> None:
        """Refuse what still waits, and let go of the engine."""
        await self.parts.aclose()


@dataclass(frozen=True)
class Workshop:
    """Loads versions on a thread of its own, beside the batches of those that serve.

    Args:
        settings: of the service.
        engine_loader: reads a version's folder.
        store: the histories.
        metrics: count what happens.
        turns: to compute batches.
        loader_thread: on which versions are loaded and warmed.
    """

    settings: Settings
    engine_loader: EngineLoader
    store: HistoryStore
    metrics: Metrics
    turns: Turns
    loader_thread: Executor

    async def build(self, version: Version, on_loaded: Callable[[], None]) -> Serving:
        """Load and warm a version, or raise what its loader raises."""
        loop = asyncio.get_running_loop()
        run = partial(loop.run_in_executor, self.loader_thread)
        began_s = time.perf_counter()
        try:
            engine = await run(self.engine_loader, self.settings, version.folder)
            on_loaded()
            costs = await run(_warm_up, engine, self.settings)
        except Exception:
            self.metrics.model_unusable()
            raise
        self.metrics.model_loaded(time.perf_counter() - began_s)
        async with AsyncExitStack() as parts:
            batcher = await parts.enter_async_context(self._batcher(engine, costs))
            checker = await parts.enter_async_context(self._checker(engine))
            recommender = Recommender(
                engine=engine,
                batcher=batcher,
                max_beam_width=self.settings.max_beam_width,
                default_deadline_ms=self.settings.default_deadline_ms,
                metrics=self.metrics,
            )
            return Serving(version, recommender, checker, parts.pop_all())

    async def replay(self, journal: CatalogJournal, engine: Engine) -> None:
        """Bring the catalog of an engine that was just loaded up to date."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self.loader_thread, journal.replay, engine)

    def _batcher(self, engine: Engine, costs: CostModel) -> Batcher[RecommendRequest, Job, Result]:
        count_tokens = partial(num_tokens, engine)
        settings, metrics = self.settings, self.metrics
        return Batcher(
            prepare=metrics.counted_reads(
                partial(prepare, self.store, engine.catalog, settings.default_beam_width)
            ),
            compute=metrics.counted_batches(partial(compute, engine), count_tokens),
            num_tokens=count_tokens,
            limits=BatchLimits(
                max_queue_rows=settings.max_queue_rows,
                max_batch_rows=settings.max_batch_rows,
                max_batch_tokens=settings.max_batch_tokens,
            ),
            turns=self.turns,
            forecast=Prediction(
                engine=engine,
                costs=costs,
                dial=Dial.of(
                    engine, costs, settings.effort_wait_ms / 1000, settings.max_batch_rows
                ),
                default_beam_width=settings.default_beam_width,
                max_batch_rows=settings.max_batch_rows,
                on_batch=metrics.batch_predicted,
            ),
        )

    def _checker(self, engine: Engine) -> Checker:
        async def as_they_are(queries: Sequence[Query]) -> list[Query]:
            return list(queries)

        return Batcher(
            prepare=as_they_are,
            compute=engine.recommend,
            num_tokens=lambda _: 1,
            limits=BatchLimits(MAX_CHECKS_WAITING, max_batch_rows=1, max_batch_tokens=1),
            turns=self.turns,
            forecast=Average(),
        )


def _warm_up(engine: Engine, settings: Settings) -> CostModel:
    """Run every shape, so that the first user need not wait, and learn what each costs.

    What is in memory then stays, so the garbage collector need not look at it again; and it looks
    less often, for next to nothing of a request needs it.
    """
    timings = engine.rehearse(settings.max_batch_rows, settings.max_batch_tokens)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    return CostModel.fit(timings)
