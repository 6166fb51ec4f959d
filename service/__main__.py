"""The command line, python -m service VERB; the verbs are the functions with @app.command."""

import asyncio
import inspect
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from model.errors import ModelError
from model.memory import keep_freed_memory
from service import server
from service.app import create_app
from service.bundles import BundleFolder
from service.errors import ServiceError, StartupError
from service.history import HistoryStore, open_store
from service.history.exporting import history_file
from service.history.importing import HistoryFile
from service.logs import configure_logging
from service.settings import PREFIX, Settings, load_settings, read_url, without_password

PATIENCE = 50  # times the timeouts of a service: an import need not be quick


class _ServeByDefault(TyperGroup):
    """`serve` is what is meant when no verb is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `serve` in front of options and of nothing."""
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


StoreOption = Annotated[
    str | None, typer.Option(help="The history store's URL, as in STAMP_HISTORY_URL.")
]
StoreFileOption = Annotated[
    Path | None, typer.Option(help="File with that URL, so that no list of processes shows it.")
]

app = typer.Typer(cls=_ServeByDefault, add_completion=False, pretty_exceptions_enable=False)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command an option for each setting; they reach it as `**flags`, None: not given."""
    own = [
        parameter
        for parameter in inspect.signature(command).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    options = []
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else f"default: {field.default}"
        text = f"{field.description} [{PREFIX}{name.upper()}; {default}]"
        option = typer.Option(f"--{name.replace('_', '-')}", help=text, show_default=False)
        options.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[str | None, option],
            )
        )
    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return command


@app.command()
@with_settings
def serve(
    *,
    example_user: Annotated[
        str | None, typer.Option(help="The user of the example that is printed when ready.")
    ] = None,
    **flags: str | None,
) -> None:
    """Serve the newest version in the bundle folder until SIGTERM or Ctrl-C."""
    with in_one_line():
        settings = load_settings(**flags)
        BundleFolder(settings.bundle_dir).require()
        configure_logging(settings.log_level, settings.log_format)
        keep_freed_memory()
        server.leave(server.run(settings, example_user))


@app.command()
def import_histories(
    file: Annotated[Path, typer.Argument(help="Parquet: user_id, item_ids (oldest first).")],
    store: StoreOption = None,
    store_file: StoreFileOption = None,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite users who have a history already.")
    ] = False,
    max_history_items: Annotated[
        int, typer.Option(min=1, help="Items to keep per user, the newest ones.")
    ] = Settings.model_fields["max_history_items"].default,
) -> None:
    """Fill the history store; run again after an interruption, it comes to the same."""
    with in_one_line():
        url = _url_of(store, store_file)
        if url == "memory://":
            raise StartupError("memory:// would be gone when the import ends; give another store")
        asyncio.run(_import(HistoryFile.open(file), url, max_history_items, replace=replace))


@app.command()
def export_histories(
    file: Annotated[Path, typer.Argument(help="Parquet to write, as import-histories reads it.")],
    store: StoreOption = None,
    store_file: StoreFileOption = None,
) -> None:
    """Write every user's history into a file; the service may go on meanwhile."""
    with in_one_line():
        url = _url_of(store, store_file)
        if url == "memory://":
            raise StartupError("memory:// is empty here; give another store")
        asyncio.run(_export(file, url))


@app.command()
@with_settings
def config(**flags: str | None) -> None:
    """Print the settings as they would be used, passwords left out."""
    with in_one_line():
        for name, value in load_settings(**flags).redacted().items():
            typer.echo(f"{PREFIX}{name.upper()}={'' if value is None else value}")


@app.command()
def openapi() -> None:
    """Print the API's description (OpenAPI 3.1, JSON)."""
    settings = Settings(_env_file=None, bundle_dir=Path(), history_url="memory://")
    typer.echo(json.dumps(create_app(settings).openapi(), indent=2))


@contextmanager
def in_one_line() -> Iterator[None]:
    """Let a failure the operator can mend end the program with one line and exit code 2."""
    try:
        yield
    except (StartupError, ModelError, ServiceError) as error:
        detail = error.detail if isinstance(error, ServiceError) else error
        typer.echo(f"error: {detail}", err=True)
        raise typer.Exit(server.FAILED) from error


def _url_of(store: str | None, file: Path | None) -> str:
    """The store that was named, or StartupError."""
    if store is not None and file is None:
        return store
    if file is None or store is not None:
        raise StartupError("name the store by --store or by --store-file")
    return read_url(file)


async def _import(file: HistoryFile, url: str, max_items: int, *, replace: bool) -> None:
    """Write the file's histories into the store, a chunk at a time."""
    num_written = 0
    async with _opened(url, max_items) as store:
        with _progress(file.num_users) as advance:
            for chunk in file.chunks():
                num_written += await store.import_many(chunk, replace=replace)
                advance(len(chunk))
        kept, total = file.num_users - num_written, await store.count()
    where = without_password(url)
    typer.echo(f"{num_written} users written, {kept} kept as they were, {total} in {where}")


async def _export(file: Path, url: str) -> None:
    """Write the store's histories into the file, a chunk at a time."""
    async with _opened(url, max_items=1) as store:
        with history_file(file) as parts, _progress(await store.count()) as advance:
            async for chunk in store.export():
                parts.add(chunk)
                advance(len(chunk))
    left_out = f", {parts.num_unreadable} unreadable ones left out" if parts.num_unreadable else ""
    typer.echo(f"{parts.num_users} users in {file}{left_out}")


@asynccontextmanager
async def _opened(url: str, max_items: int) -> AsyncIterator[HistoryStore]:
    """The store, more patient than a service's."""
    store = open_store(url, max_items=max_items, patience=PATIENCE)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def _progress(num_users: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; call it with the number of users that are done."""
    columns = (TextColumn("histories"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("histories", total=num_users)
        yield partial(progress.advance, task)


if __name__ == "__main__":
    sys.exit(app())
