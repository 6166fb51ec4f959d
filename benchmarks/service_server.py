"""Servers that the service is compared with: python -m benchmarks.service_server KIND.

`free` is the service around an engine that answers at once; `echo` is FastAPI alone; `peer` is what
people write around transformers' `generate`. All run under uvicorn as the service does.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self
from uuid import uuid4

import torch
import typer
import uvicorn
from fastapi import FastAPI

from benchmarks.decode_peers import Transformers
from benchmarks.decode_workload import Batch, Case
from model.bundle import Bundle, load_bundle
from model.engine import DEFAULT_BEAM_WIDTH, Answer, Engine, Query
from model.t5 import T5
from service.app import create_app
from service.logs import configure_logging
from service.schemas import ModelVersion, RecommendedItem, RecommendRequest, RecommendResponse
from service.server import listen, run, uvicorn_config
from service.settings import Settings
from training.cost import settle

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class FreeEngine(Engine):
    """An engine that searches once for each limit, and from then on answers that to everybody."""

    _recorded: dict[int, Answer] | None = None

    def recommend(self, queries: Sequence[Query]) -> list[Answer]:
        """The recorded answers."""
        if self._recorded is None:
            self._recorded = {}
        for query in queries:
            if query.limit not in self._recorded:
                self._recorded[query.limit] = super().recommend([query])[0]
        return [self._recorded[query.limit] for query in queries]


def load_free(settings: Settings, folder: Path) -> Engine:
    """As the service loads its own."""
    return FreeEngine.load(folder, num_threads=settings.num_threads)


@app.command()
def free(bundle_dir: Path, history_url: str) -> None:
    """Serve a bundle without computing anything."""
    settings = Settings(bundle_dir=bundle_dir, history_url=history_url, port=0, _env_file=None)
    configure_logging(settings.log_level, settings.log_format)
    settle()
    run(settings, None, build_app=partial(create_app, engine_loader=load_free))


@app.command()
def echo() -> None:
    """Answer whatever JSON object is sent."""
    server = FastAPI()

    @server.post("/recommend")
    async def recommend(body: dict[str, Any]) -> dict[str, Any]:
        return body

    serve(server)


@app.command()
def peer(
    bundle_dir: Path,
    rows: Annotated[int, typer.Option(min=1, help="Most requests in a batch.")] = 1,
) -> None:
    """Serve a T5's bundle by transformers' `generate`."""
    settle()
    serve(peer_app(Peer.of(load_bundle(bundle_dir)), rows))


def serve(server: FastAPI) -> None:
    """Run an app as the service's is run."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(json.dumps({"event": "ready", "url": url}, separators=(",", ":")), flush=True)
    uvicorn.Server(uvicorn_config(server, 1)).run(sockets=[listener])


@dataclass(frozen=True)
class Peer:
    """Transformers' T5 with a bundle's weights, asked as our engine is."""

    bundle: Bundle
    model: Transformers
    item_of: dict[tuple[int, ...], int]

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Of a bundle whose semantic IDs are one item's each."""
        model = bundle.build_model().requires_grad_(requires_grad=False)
        assert isinstance(model, T5), "transformers has no other model of ours"
        codes = [tuple(sid) for sid in bundle.sids.codes.tolist()]
        transformers = Transformers.of(Case(model, bundle.sids))
        return cls(bundle, transformers, {sid: item for item, sid in enumerate(codes)})

    def answer(self, bodies: Sequence[RecommendRequest]) -> list[RecommendResponse]:
        """The responses to requests with a history each, and as many beams."""
        config, catalog = self.bundle.manifest.model, self.bundle.catalog
        known = [map(catalog.index_of, body.history or ()) for body in bodies]
        histories = [[index for index in row if index is not None] for row in known]
        num_items = min(config.max_history_items, max(map(len, histories)))
        packed = self.bundle.sids.pack(histories, separator=config.separator, num_items=num_items)
        beams = max(body.beam_width or DEFAULT_BEAM_WIDTH for body in bodies)
        codes = self.model.codes(Batch(*map(torch.from_numpy, packed)), beams).tolist()
        return [self._response(body, sids) for body, sids in zip(bodies, codes, strict=True)]

    def _response(self, body: RecommendRequest, sids: list[list[int]]) -> RecommendResponse:
        manifest, catalog = self.bundle.manifest, self.bundle.catalog
        indices = [self.item_of[tuple(sid)] for sid in sids[: body.limit]]
        return RecommendResponse(
            recommendation_id=uuid4().hex,
            model=ModelVersion(name=manifest.name, version=manifest.version),
            items=[
                RecommendedItem(
                    item_id=catalog.item_ids[index],
                    rank=rank,
                    score=None,
                    title=catalog.titles[index],
                )
                for rank, index in enumerate(indices, start=1)
            ],
            source="model",
            short=len(indices) < body.limit,
            degraded=[],
            unknown_items=[],
        )


def peer_app(peer: Peer, rows: int) -> FastAPI:
    """One model thread; whoever comes while it is busy waits, and up to `rows` go together."""
    queue: asyncio.Queue[tuple[RecommendRequest, asyncio.Future[RecommendResponse]]]
    queue = asyncio.Queue()

    async def work() -> None:
        loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        while True:
            waiting = [await queue.get()]
            while len(waiting) < rows and not queue.empty():
                waiting.append(queue.get_nowait())
            bodies = [body for body, _ in waiting]
            responses = await loop.run_in_executor(thread, peer.answer, bodies)
            for (_, future), response in zip(waiting, responses, strict=True):
                future.set_result(response)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(work())
        yield
        task.cancel()

    server = FastAPI(lifespan=lifespan)

    @server.post("/recommend")
    async def recommend(body: RecommendRequest) -> RecommendResponse:
        future: asyncio.Future[RecommendResponse] = asyncio.get_running_loop().create_future()
        await queue.put((body, future))
        return await future

    return server


if __name__ == "__main__":
    app()
