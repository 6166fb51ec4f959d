"""The command line: python -m training prepare | baselines | quantize | train | ... | run."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from model.errors import ModelError
from model.memory import keep_freed_memory
from training import steps
from training.conclude import conclude
from training.config import read_recipe
from training.experiment import cells_of, read_experiment
from training.experiment_run import work_on
from training.processes import num_processes, rank
from training.run import Run

app = typer.Typer(
    help="From raw interactions to a bundle that the service can load.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A .toml file, or the name of a built-in recipe.")
]
RunsDir = Annotated[Path, typer.Option(help="Where runs keep their files.")]
BundlesDir = Annotated[Path, typer.Option(help="Where bundles go.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data", help="The folder that {data} stands for in the recipe.", metavar="DIR"),
]


def _work(
    chosen: Sequence[steps.Step], recipe: str, data: Path | None, runs_dir: Path, bundles_dir: Path
) -> None:
    """Do some steps of a recipe, alone on its run but for the other processes of a torchrun."""
    if num_processes() > 1 and not set(chosen) <= set(steps.SHARED):
        raise ModelError("torchrun is for the verbs pretrain and train; use one process")
    steps.console.quiet = rank() > 0
    found = read_recipe(recipe, data)
    run = Run(found, runs_dir / found.name, bundles_dir / found.name)
    with run.locked() if rank() == 0 else nullcontext():
        for step in chosen:
            step(run)


def _command(step: steps.Step) -> None:
    """Add one step as a verb."""

    def verb(
        recipe: RecipeName,
        data: DataDir = None,
        runs_dir: RunsDir = Path("runs"),
        bundles_dir: BundlesDir = Path("bundles"),
    ) -> None:
        _work([step], recipe, data, runs_dir, bundles_dir)

    app.command(step.__name__, help=step.__doc__)(verb)


for _step in steps.STEPS:
    _command(_step)


@app.command("run")
def run_all(
    recipe: RecipeName,
    data: DataDir = None,
    runs_dir: RunsDir = Path("runs"),
    bundles_dir: BundlesDir = Path("bundles"),
) -> None:
    """All steps of a recipe, skipping what is done, going on where a training was interrupted."""
    _work(steps.STEPS, recipe, data, runs_dir, bundles_dir)


@app.command()
def experiment(
    name: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT", help="A .toml file, or the name of a built-in experiment."
        ),
    ],
    data: DataDir = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Train a grid of variants, compare them, and write report.md, report.json and plots.

    Goes on where it was interrupted. Run the same command in a second terminal to use another core:
    each takes what the other has not begun.
    """
    found = read_experiment(name)
    cells = cells_of(found, data)
    folder = runs_dir / "experiments" / found.name
    unfinished = work_on(cells, folder)
    if unfinished:
        steps.console.print(f"{len(unfinished)} trainings are left to other processes")
    steps.console.print(f"report: {conclude(found, cells, folder)}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a ModelError is one readable line and exit code 1."""
    keep_freed_memory()
    try:
        app(arguments)
    except ModelError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
