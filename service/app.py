"""create_app: the only place where parts are built and joined."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import FastAPI

from model.engine import Engine
from model.errors import ModelError
from model.threads import use_threads
from service import __version__
from service.bundles import BundleFolder
from service.catalog_journal import CatalogJournal
from service.errors import ServiceError
from service.event_routes import event_router
from service.history import HistoryStore, open_store
from service.item_routes import CatalogEditor, item_router
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.model_routes import model_router
from service.models import Models
from service.openapi import openapi
from service.page_routes import docs_router, page_router
from service.plan import PlanFile
from service.problems import install_error_handlers
from service.quick import Quick
from service.rate_limit import Limiter
from service.routes import router
from service.serving import EngineLoader, Serving, Workshop, load_engine
from service.settings import Settings
from service.stack import install_middleware
from service.telemetry import telemetry
from service.trials import Trials
from service.turns import Turns

log = structlog.get_logger()


def create_app(
    settings: Settings,
    engine_loader: EngineLoader = load_engine,
    on_ready: Callable[[Engine], None] = lambda _: None,
) -> FastAPI:
    """The service as an ASGI app; StartupError when the history store does not open.

    It answers from the start; the engine is loaded and warmed on the model thread meanwhile, and
    handed to `on_ready` when that is done.
    """
    journal = None if settings.catalog_file is None else CatalogJournal.open(settings.catalog_file)
    store = open_store(settings.store_url, max_items=settings.max_history_items)
    lifecycle = Lifecycle()
    app = FastAPI(
        title="STAMP Recommender",
        version=__version__,
        summary="Generative recommendation: which items a user is most likely to want next.",
        lifespan=_Lifespan(settings, engine_loader, on_ready, store, lifecycle, journal).span,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
        telemetry=telemetry(settings),
    )
    app.state.settings = settings
    app.state.lifecycle = lifecycle
    app.state.history = store
    app.state.models = None
    app.state.metrics = _metrics(lifecycle, store)
    app.state.limiter = Limiter.open(settings)
    for routes in (router, event_router, item_router, model_router, docs_router()):
        app.include_router(routes)
    if settings.page:
        app.include_router(page_router())
    if not settings.otel:  # FastAPI's traces tell of its own way only
        app.add_middleware(Quick)
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
    engine_loader: EngineLoader
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
            starting = asyncio.create_task(self._start(app, self._threads(stack), stack))
            starting.add_done_callback(self._note_failure)
            yield
            self.lifecycle.drain()
            starting.cancel()
            await asyncio.wait([starting])

    def _threads(self, stack: AsyncExitStack) -> tuple[Turns, Executor]:
        """Where batches are computed, and where versions are loaded."""
        in_thread = partial(use_threads, self.settings.num_threads)
        num_threads = self.settings.model_threads
        model_threads = ThreadPoolExecutor(num_threads, "model", initializer=in_thread)
        loader_thread = ThreadPoolExecutor(1, "loader", initializer=in_thread)
        for thread in (model_threads, loader_thread):
            stack.callback(thread.shutdown, wait=False, cancel_futures=True)
        return Turns(model_threads, num_threads), loader_thread

    async def _start(
        self, app: FastAPI, threads: tuple[Turns, Executor], stack: AsyncExitStack
    ) -> None:
        """Load, warm, and let requests in."""
        models = self._models(app.state.metrics, *threads)
        stack.push_async_callback(models.close)
        await models.start(partial(self.lifecycle.advance, "warming"))
        app.state.catalog_editor = CatalogEditor(self.journal, models, threads[0])
        app.state.metrics.live.queue = models
        app.state.models = models
        self.lifecycle.advance("ready")
        self.on_ready(models.lineup.active.engine)
        if every_s := self.settings.bundle_poll_s:
            polling = asyncio.create_task(models.poll(every_s))
            stack.callback(polling.cancel)

    def _models(self, metrics: Metrics, turns: Turns, loader_thread: Executor) -> Models:
        settings = self.settings

        def on_switch(serving: Serving) -> None:
            metrics.live.engine = serving.engine

        return Models(
            folder=BundleFolder(settings.bundle_dir),
            plan_file=PlanFile(settings.plan_path),
            workshop=Workshop(
                settings, self.engine_loader, self.store, metrics, turns, loader_thread
            ),
            journal=self.journal,
            on_switch=on_switch,
            trials=Trials(metrics, settings.beam_check_percent),
        )

    def _note_failure(self, starting: asyncio.Task[None]) -> None:
        """End the service when its start failed: without a model there is nothing to serve."""
        if not starting.cancelled() and (error := starting.exception()):
            bug = None if isinstance(error, (ModelError, ServiceError)) else error
            log.error("start_failed", error=str(error), exc_info=bug)
            self.lifecycle.fail(error)
