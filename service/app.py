"""create_app: the only place where parts are built and joined."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import FastAPI

from model.bundle import latest
from model.engine import Engine
from model.errors import ModelError
from service import __version__
from service.batcher import Batcher, BatchLimits
from service.catalog_journal import CatalogJournal
from service.event_routes import event_router
from service.history import HistoryStore, open_store
from service.item_routes import CatalogEditor, item_router
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.openapi import openapi
from service.problems import install_error_handlers
from service.rate_limit import Limiter
from service.recommender import Job, Recommender, Result, compute, num_tokens, prepare
from service.routes import router
from service.schemas import RecommendRequest
from service.settings import Settings
from service.stack import install_middleware
from service.telemetry import telemetry

log = structlog.get_logger()


def load_engine(settings: Settings) -> Engine:
    """The newest version in the bundle folder, or BundleError."""
    return Engine.load(
        latest(settings.bundle_dir),
        device=settings.device,
        dtype=settings.dtype,
        num_threads=settings.num_threads,
        cache_bytes=settings.prompt_cache_mb * 10**6,
    )


def create_app(
    settings: Settings,
    engine_loader: Callable[[Settings], Engine] = load_engine,
    on_ready: Callable[[Engine], None] = lambda _: None,
) -> FastAPI:
    """The service as an ASGI app; StartupError when the history store does not open.

    It answers from the start; the engine is loaded and warmed on the model thread meanwhile, and
    handed to `on_ready` when that is done.
    """
    journal = None if settings.catalog_file is None else CatalogJournal.open(settings.catalog_file)
    store = open_store(settings.history_url, max_items=settings.max_history_items)
    lifecycle = Lifecycle()
    app = FastAPI(
        title="STAMP Recommender",
        version=__version__,
        summary="Generative recommendation: which items a user is most likely to want next.",
        lifespan=_Lifespan(settings, engine_loader, on_ready, store, lifecycle, journal).span,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        redoc_url=None,
        telemetry=telemetry(settings),
    )
    app.state.settings = settings
    app.state.lifecycle = lifecycle
    app.state.history = store
    app.state.recommender = None
    app.state.metrics = _metrics(lifecycle, store)
    app.state.limiter = Limiter.open(settings)
    app.include_router(router)
    app.include_router(event_router)
    app.include_router(item_router)
    install_middleware(app, settings, app.state.metrics, app.state.limiter)
    install_error_handlers(app)
    app.openapi = partial(openapi, app)  # type: ignore[method-assign]  # as FastAPI documents it
    return app


def _metrics(lifecycle: Lifecycle, store: HistoryStore) -> Metrics:
    """The app's own, which look up states when they are asked for."""
    metrics = Metrics()
    metrics.live.state = lambda: lifecycle.state
    metrics.live.breaker = lambda: store.breaker_state
    return metrics


@dataclass(frozen=True)
class _Lifespan:
    """From the first request to the last: the engine comes up behind an app that answers."""

    settings: Settings
    engine_loader: Callable[[Settings], Engine]
    on_ready: Callable[[Engine], None]
    store: HistoryStore
    lifecycle: Lifecycle
    journal: CatalogJournal | None

    @asynccontextmanager
    async def span(self, app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            if self.journal is not None:
                stack.callback(self.journal.close)
            if app.state.limiter is not None:
                stack.push_async_callback(app.state.limiter.close)
            model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
            stack.callback(model_thread.shutdown, wait=False, cancel_futures=True)
            starting = asyncio.create_task(self._start(app, model_thread, stack))
            starting.add_done_callback(self._note_failure)
            yield
            self.lifecycle.drain()
            starting.cancel()
            await asyncio.wait([starting])

    async def _start(self, app: FastAPI, model_thread: Executor, stack: AsyncExitStack) -> None:
        """Load, warm, and let requests in."""
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(model_thread, self.engine_loader, self.settings)
        app.state.catalog_editor = CatalogEditor(self.journal, model_thread)
        if self.journal is not None:
            await loop.run_in_executor(model_thread, self.journal.replay, engine)
        self.lifecycle.advance("warming")
        await loop.run_in_executor(model_thread, _warm_up, engine)
        metrics: Metrics = app.state.metrics
        batcher = self._batcher(engine, model_thread, metrics)
        app.state.recommender = Recommender(
            engine=engine,
            batcher=await stack.enter_async_context(batcher),
            max_beam_width=self.settings.max_beam_width,
            default_deadline_ms=self.settings.default_deadline_ms,
            metrics=metrics,
        )
        metrics.live.engine, metrics.live.queue = engine, batcher
        self.lifecycle.advance("ready")
        self.on_ready(engine)

    def _batcher(
        self, engine: Engine, model_thread: Executor, metrics: Metrics
    ) -> Batcher[RecommendRequest, Job, Result]:
        count_tokens = partial(num_tokens, engine)
        return Batcher(
            prepare=metrics.counted_reads(
                partial(prepare, self.store, engine.catalog, self.settings.default_beam_width)
            ),
            compute=metrics.counted_batches(partial(compute, engine), count_tokens),
            num_tokens=count_tokens,
            limits=BatchLimits(
                max_queue_rows=self.settings.max_queue_rows,
                max_batch_rows=self.settings.max_batch_rows,
                max_batch_tokens=self.settings.max_batch_tokens,
            ),
            model_thread=model_thread,
        )

    def _note_failure(self, starting: asyncio.Task[None]) -> None:
        """End the service when its start failed: without a model there is nothing to serve."""
        if not starting.cancelled() and (error := starting.exception()):
            bug = None if isinstance(error, ModelError) else error
            log.error("start_failed", error=str(error), exc_info=bug)
            self.lifecycle.fail(error)


def _warm_up(engine: Engine) -> None:
    """Run every shape once, so that the first user need not wait.

    What is in memory then stays, so the garbage collector need not look at it again.
    """
    engine.warm_up()
    gc.collect()
    gc.freeze()
