"""The command line, python -m loadtest VERB; the verbs are the functions with @app.command."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from loadtest.errors import LoadTestError
from loadtest.run import Load, run_and_report
from loadtest.schedules import Shape
from loadtest.search import Effort, search
from loadtest.session import Options

BROKEN, FAILED = 1, 2

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

Url = Annotated[str | None, typer.Option(help="Address of a running service.")]
BundleDir = Annotated[Path | None, typer.Option(help="Start a service of this bundle folder.")]
Data = Annotated[Path | None, typer.Option(help="Parquet of user_id and item_ids: who comes.")]
HistoryUrl = Annotated[str | None, typer.Option(help="Store of a service that is started.")]
ServeArgs = Annotated[str, typer.Option(help="More options of `python -m service serve`.")]
KeyFile = Annotated[Path | None, typer.Option(help="File with an API key of the service.")]
Mix = Annotated[str | None, typer.Option(help="Weights of requests, e.g. known=3,events=1.")]
Limit = Annotated[int, typer.Option(min=1, max=100, help="Items to ask for.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")]
ClientCheck = Annotated[float, typer.Option(min=0.1, help="Seconds to measure the client for.")]
Report = Annotated[Path, typer.Option(help="Folder for the report.")]


@app.command()
def run(
    *,
    url: Url = None,
    bundle_dir: BundleDir = None,
    data: Data = None,
    shape: Annotated[Shape, typer.Option(help="How the load goes over time.")] = "steady",
    rate: Annotated[float | None, typer.Option(min=0.01, help="Arrivals/s: open loop.")] = None,
    users: Annotated[int | None, typer.Option(min=1, help="Users: closed loop.")] = None,
    duration: Annotated[float, typer.Option(min=1, help="Seconds that are measured.")] = 60.0,
    warmup: Annotated[float, typer.Option(min=0, help="Seconds before, not measured.")] = 3.0,
    report: Report = Path("reports/loadtest"),
    slo: Annotated[Path | None, typer.Option(help="TOML: sets the exit code.")] = None,
    overload: Annotated[bool, typer.Option("--overload", help="429 is no error.")] = False,
    history_url: HistoryUrl = None,
    serve_args: ServeArgs = "",
    key_file: KeyFile = None,
    mix: Mix = None,
    limit: Limit = 10,
    seed: Seed = 0,
    client_check: ClientCheck = 2.0,
) -> None:
    """Load a service, write a report, and end with 0 if the objective held, else with 1."""
    with in_one_line():
        options = Options(
            url,
            bundle_dir,
            data,
            history_url,
            serve_args,
            key_file,
            mix,
            limit,
            seed,
            client_check,
        )
        load = Load(rate, users, shape, duration, warmup)
        held = run_and_report(options, load, slo, report, command(), say, overload=overload)
        raise typer.Exit(0 if held else BROKEN)


@app.command(name="find-rate")
def find_rate(
    *,
    url: Url = None,
    bundle_dir: BundleDir = None,
    data: Data = None,
    p99_ms: Annotated[float, typer.Option(min=1, help="What is to hold, from due.")] = 100.0,
    probe: Annotated[float, typer.Option(min=1, help="Seconds of a short probe.")] = 10.0,
    confirm: Annotated[float, typer.Option(min=1, help="Seconds of the last one.")] = 60.0,
    warmup: Annotated[float, typer.Option(min=0, help="Seconds before each.")] = 3.0,
    precision: Annotated[float, typer.Option(min=0.01, max=0.5, help="Of the rate.")] = 0.05,
    report: Report = Path("reports/find-rate"),
    history_url: HistoryUrl = None,
    serve_args: ServeArgs = "",
    key_file: KeyFile = None,
    mix: Mix = None,
    limit: Limit = 10,
    seed: Seed = 0,
    client_check: ClientCheck = 2.0,
) -> None:
    """Find the highest rate of arrivals that a service answers in time."""
    with in_one_line():
        options = Options(
            url,
            bundle_dir,
            data,
            history_url,
            serve_args,
            key_file,
            mix,
            limit,
            seed,
            client_check,
        )
        effort = Effort(probe, confirm, warmup, precision)
        held = search(options, p99_ms, effort, report, command(), say)
        raise typer.Exit(0 if held else BROKEN)


def command() -> str:
    """What was typed, for reports."""
    return shlex.join(["python", "-m", "loadtest", *sys.argv[1:]])


def say(line: str) -> None:
    """Tell the person at the terminal."""
    typer.echo(line)


@contextmanager
def in_one_line() -> Iterator[None]:
    """Let what the person can mend end the program with one line and exit code 2."""
    try:
        yield
    except LoadTestError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(FAILED) from error


if __name__ == "__main__":
    sys.exit(app())
