"""Works through the cells of an experiment; several processes may share the work.

`<folder>/cells/<name>/` is the run of one cell, `<folder>/shared/<key>/` a run whose data, semantic
IDs and first stage several cells have in common. Everything has its stamp, so that a command that
was interrupted goes on where it stopped, and a second one takes what the first has not begun.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from training import steps
from training.config import Recipe
from training.evaluate import evaluate, some
from training.experiment import Cell
from training.files import atomic_path
from training.metrics import Floats
from training.run import BusyError, Run, step_key

SHARED_STEPS = (steps.prepare, steps.quantize, steps.pretrain)
SHARED_FOLDERS = ("data", "sids", "pretrain")


class Served(BaseModel, frozen=True, extra="forbid"):
    """A cell's test users, answered at one retention ratio."""

    retention_ratio: float
    metrics: dict[str, float]


class CellResult(BaseModel, frozen=True, extra="forbid"):
    """What a cell was measured to be; seen items stay candidates, as in the papers."""

    recipe_name: str
    variant: tuple[str, ...]
    seed: int
    num_users: int
    trained_ratio: float
    """The retention ratio of its training; the first of `served`."""
    served: tuple[Served, ...]


@dataclass(frozen=True)
class Judged:
    """A finished cell.

    Args:
        result: metrics.
        ranks: per retention ratio, (num_users,) rank of the target, inf where not found.
    """

    result: CellResult
    ranks: dict[float, Floats]


def work_on(cells: Iterable[Cell], folder: Path) -> list[Cell]:
    """Finish every cell that no other process is at work on, and return the others."""
    waiting = list(cells)
    for wait in (False, True):
        waiting = [cell for cell in waiting if not _finished(cell, folder, wait=wait)]
    return waiting


def judged(cell: Cell, folder: Path) -> Judged | None:
    """What a finished cell has found; None before."""
    run = run_of(cell, folder)
    if not run.stamp("judge"):
        return None
    text = (run.folder / "result.json").read_text(encoding="utf-8")
    result = CellResult.model_validate_json(text)
    with np.load(run.folder / "ranks.npz", allow_pickle=False) as file:
        ranks = {float(name): file[name] for name in file.files}
    return Judged(result, ranks)


def run_of(cell: Cell, folder: Path) -> Run:
    """The run of a cell."""
    words = "--".join((cell.recipe_name, *cell.variant, str(cell.seed)))
    name = re.sub(r"[^a-z0-9.-]+", "-", words.lower())
    return Run(cell.recipe, folder / "cells" / name, folder / "bundles")


def shared_run(cell: Cell, folder: Path) -> Run:
    """The run of what a cell has in common with others: all that comes before its own stage."""
    tables = {"dataset", "split", "embedding", "quantizer"}
    recipe = cell.recipe
    if recipe.pretrainer is not None:
        tables |= {"model", "pretrainer"}
    before = recipe.model_dump(mode="json", include=tables)
    if recipe.pretrainer is not None and recipe.pretrainer.layout == "dense":
        before["model"].pop("pruning", None)  # it has no part in this stage
    key = step_key("shared", before, after="")
    return Run(recipe, folder / "shared" / key, folder / "bundles")


def _finished(cell: Cell, folder: Path, *, wait: bool) -> bool:
    """Finish a cell; False where another process is at work on it or on what comes before."""
    run, shared = run_of(cell, folder), shared_run(cell, folder)
    try:
        with run.locked():
            with shared.locked(wait=wait):
                for step in SHARED_STEPS:
                    step(shared)
            _adopt(run, shared)
            steps.train(run)
            _judge(cell, run)
    except BusyError:
        return False
    return True


def _adopt(run: Run, shared: Run) -> None:
    """Make the shared steps the run's own: links to their folders, and their stamps."""
    for name in SHARED_FOLDERS:
        link, target = run.folder / name, shared.folder / name
        link.unlink(missing_ok=True)
        if target.exists():
            link.symlink_to(target.resolve(), target_is_directory=True)
    for step in SHARED_STEPS:
        if stamp := shared.stamp(step.__name__):
            run.write_stamp(step.__name__, *stamp)


def _judge(cell: Cell, run: Run) -> None:
    """Answer the test users at every retention ratio -> result.json, ranks.npz."""
    config = run.recipe.evaluation
    key = step_key("judge", config.model_dump(mode="json"), after=steps.key_of(run, "train"))
    if steps.is_done(run, "judge", key):
        return
    torch.set_num_threads(config.num_threads)
    split = run.split()
    engine, test = steps.trained_engine(run, split), some(split.test, config.max_users)
    trained = run.recipe.trainer.retention_ratio or engine.manifest.model.default_retention_ratio
    found = {
        ratio: evaluate(
            engine,
            test,
            beam_width=config.beam_width,
            retention_ratio=ratio,
            exclude_seen=False,
        )
        for ratio in dict.fromkeys((trained, *_servable(run.recipe, trained)))
    }
    result = CellResult(
        recipe_name=cell.recipe_name,
        variant=cell.variant,
        seed=cell.seed,
        num_users=len(test),
        trained_ratio=trained,
        served=tuple(
            Served(retention_ratio=ratio, metrics=quality.metrics)
            for ratio, quality in found.items()
        ),
    )
    with atomic_path(run.folder / "ranks.npz") as part, part.open("wb") as file:
        ranks: dict[str, Any] = {str(ratio): each.ranks for ratio, each in found.items()}
        np.savez_compressed(file, **ranks)
    with atomic_path(run.folder / "result.json") as part:
        part.write_text(json.dumps(result.model_dump(mode="json"), indent=1) + "\n", "utf-8")
    run.write_stamp("judge", key)


def _servable(recipe: Recipe, trained: float) -> tuple[float, ...]:
    """The ratios to serve with; a model without a block to prune after is served as it is."""
    without = recipe.model.get("pruning", {}) == "none"
    return (trained,) if without else recipe.evaluation.retention_ratios
