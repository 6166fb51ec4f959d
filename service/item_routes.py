"""Endpoints about items: parse, call, answer. Changes are made while nothing is computed."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.encoders import jsonable_encoder
from pydantic import JsonValue

from model.engine import Engine
from service.catalog_journal import CatalogJournal, Change
from service.errors import (
    BodyTooLargeError,
    CatalogReadOnlyError,
    CatalogUnavailableError,
    InvalidJsonError,
    InvalidRequestError,
    ItemNotFoundError,
    NotReadyError,
    PathNotFoundError,
    UnsupportedMediaTypeError,
)
from service.item_schemas import Item, ItemBody, ItemPage
from service.models import Models
from service.routes import ModelsDep, problems
from service.turns import Turns

ResultT = TypeVar("ResultT")

item_router = APIRouter(redirect_slashes=False)


@dataclass(frozen=True)
class CatalogEditor:
    """Where changes are kept, whose catalogs they change, and who else uses these."""

    journal: CatalogJournal | None
    models: Models
    turns: Turns

    async def run(self, work: Callable[[CatalogJournal, list[Engine]], ResultT]) -> ResultT:
        """Do the work while no batch runs, whether or not the caller stays; or say it cannot be.

        The engines are those of all loaded versions, the active one's first.
        """
        journal = self.journal
        if journal is None:
            raise CatalogReadOnlyError("No changes are kept: STAMP_CATALOG_FILE is not set.")
        return await asyncio.shield(asyncio.create_task(self._run(partial(work, journal))))

    async def _run(self, work: Callable[[list[Engine]], ResultT]) -> ResultT:
        async with self.models.editing:
            return await self.turns.alone(work, self.models.engines())


async def editor_of(request: Request, models: ModelsDep) -> CatalogEditor:
    """The editor; there is one as soon as a model serves."""
    assert models is not None
    editor = request.app.state.catalog_editor
    assert isinstance(editor, CatalogEditor)
    return editor


EditorDep = Annotated[CatalogEditor, Depends(editor_of)]
ItemIdInPath = Annotated[str, Path(min_length=1, max_length=256)]


@item_router.get("/items", responses=problems(InvalidRequestError, NotReadyError))
async def list_items(
    models: ModelsDep,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
    q: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=256,
            description="Only items with this in the title, in any case, or as id; the most "
            "popular first.",
        ),
    ] = None,
) -> ItemPage:
    """Return some of the catalog's items, in its order, or some of those that are looked for."""
    engine = models.lineup.active.engine
    total = engine.sids.num_items  # an item that is just being added has a name first
    found: Sequence[int] = range(total)
    if q is not None:
        in_catalog = await asyncio.to_thread(engine.catalog.find, q)
        found = in_catalog[in_catalog < total].tolist()
    items = [_item(engine, index) for index in found[offset : offset + limit]]
    return ItemPage(items=items, total=len(found))


@item_router.get(
    "/items/{item_id:path}",
    responses=problems(InvalidRequestError, PathNotFoundError, ItemNotFoundError, NotReadyError),
)
async def get_item(item_id: ItemIdInPath, models: ModelsDep) -> Item:
    """Return what is known of an item."""
    return _item(models.lineup.active.engine, _index_of(models.lineup.active.engine, item_id))


@item_router.put(
    "/items/{item_id:path}",
    responses=problems(
        InvalidJsonError,
        CatalogReadOnlyError,
        PathNotFoundError,
        BodyTooLargeError,
        UnsupportedMediaTypeError,
        InvalidRequestError,
        NotReadyError,
        CatalogUnavailableError,
    ),
)
async def put_item(
    item_id: ItemIdInPath, body: ItemBody, models: ModelsDep, editor: EditorDep
) -> Item:
    """Add an item, or change one and bring it back, for every request from now on."""
    vector = None if body.vector is None else np.array(body.vector, dtype=np.float32).tobytes()
    columns: dict[str, JsonValue] = {"title": body.title}
    columns.update(body.model_dump()["attributes"])
    change = Change(item_id, columns, vector)
    await editor.run(lambda journal, engines: journal.put(engines, change))
    return _item(models.lineup.active.engine, _index_of(models.lineup.active.engine, item_id))


@item_router.delete(
    "/items/{item_id:path}",
    status_code=204,
    responses=problems(
        CatalogReadOnlyError,
        PathNotFoundError,
        ItemNotFoundError,
        InvalidRequestError,
        NotReadyError,
        CatalogUnavailableError,
    ),
)
async def delete_item(item_id: ItemIdInPath, models: ModelsDep, editor: EditorDep) -> None:
    """Take an item out; histories may still hold it. Again changes nothing."""
    _index_of(models.lineup.active.engine, item_id)
    await editor.run(lambda journal, engines: journal.remove(engines, item_id))


def _index_of(engine: Engine, item_id: str) -> int:
    index = engine.catalog.index_of(item_id)
    if index is None or index >= engine.sids.num_items:
        raise ItemNotFoundError("The catalog does not know this item.")
    return index


def _item(engine: Engine, index: int) -> Item:
    columns = engine.catalog.frame.row(index, named=True)
    own = {name: columns.pop(name) for name in ("item_id", "title", "popularity")}
    return Item(
        **own,
        attributes=jsonable_encoder(columns),
        sid=engine.sids.codes[index].tolist(),
        available=not engine.inventory.is_removed(index),
    )
