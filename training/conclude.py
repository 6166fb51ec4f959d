"""The end of an experiment: costs once every training is finished, and the report of what is."""

import json
import sys
from pathlib import Path

from pydantic import TypeAdapter

from training import steps
from training.environment import environment
from training.experiment import Cell, Experiment, recipe_name
from training.experiment_cost import Cost, measure_costs
from training.experiment_report import RecipeReport, summarise, write_report
from training.experiment_run import judged
from training.files import atomic_path
from training.run import step_key

COST_BUDGET_S = 120.0

_COSTS = TypeAdapter(list[Cost])


def conclude(
    experiment: Experiment, cells: list[Cell], folder: Path, budget_s: float | None = None
) -> Path:
    """Write the report of all finished cells and return its path.

    Args:
        experiment: the grid.
        cells: all of them, finished or not.
        folder: the experiment's.
        budget_s: how long to measure the costs of one recipe's variants; None = COST_BUDGET_S.
    """
    results = [(cell, judged(cell, folder)) for cell in cells]
    finished = [(cell, result) for cell, result in results if result is not None]
    reports: list[RecipeReport] = []
    budget_s = COST_BUDGET_S if budget_s is None else budget_s
    for recipe in map(recipe_name, experiment.recipes):
        own = [(cell, result) for cell, result in finished if cell.recipe_name == recipe]
        if not own:
            continue
        all_done = len(finished) == len(cells) and experiment.measure_cost
        costs = _costs(experiment, recipe, cells, folder, budget_s) if all_done else []
        reports.append(summarise(experiment, recipe, own, costs))
    found_in = environment("training", sys.argv[1:])
    return write_report(experiment, reports, len(cells) - len(finished), found_in, folder)


def _costs(
    experiment: Experiment, recipe: str, cells: list[Cell], folder: Path, budget_s: float
) -> list[Cost]:
    """Of a recipe's variants, measured once -> costs-<recipe>.json."""
    own = {
        cell.variant: cell
        for cell in cells
        if (cell.recipe_name, cell.seed) == (recipe, experiment.seeds[0])
    }
    if any(cell.recipe.trainer.layout != "answer" for cell in own.values()):
        return []
    key = step_key("costs", [cell.recipe.model_dump(mode="json") for cell in own.values()], "")
    path = folder / f"costs-{recipe}.json"
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] == key:
            return _COSTS.validate_python(stored["costs"])
    steps.console.rule(f"costs of {recipe}")
    costs = measure_costs(own, folder, budget_s)
    document = {"key": key, "costs": [cost.model_dump(mode="json") for cost in costs]}
    with atomic_path(path) as part:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return costs
