"""What an experiment found, as report.json, report.md and a plot per recipe.

Differences are paired: the same seed and the same users, against the baseline's variant served at
the ratio that it is made for. Their intervals come from resampling users.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, JsonValue

from training.environment import Environment
from training.experiment import Cell, Experiment
from training.experiment_cost import Cost
from training.experiment_plot import plot_rows
from training.experiment_rows import Row
from training.experiment_run import Judged
from training.files import atomic_path
from training.metrics import bootstrap_interval, recall_at_k


class RecipeReport(BaseModel, frozen=True, extra="forbid"):
    """One recipe of an experiment; costs are empty where they were not measured."""

    recipe: str
    num_users: int
    rows: tuple[Row, ...]
    costs: tuple[Cost, ...]


def summarise(
    experiment: Experiment,
    recipe: str,
    found: Sequence[tuple[Cell, Judged]],
    costs: Sequence[Cost],
) -> RecipeReport:
    """The finished cells of one recipe; at least one."""
    by_variant: dict[tuple[str, ...], dict[int, Judged]] = {}
    for cell, judged in found:
        by_variant.setdefault(cell.variant, {})[cell.seed] = judged
    baseline = by_variant.get(experiment.baseline, {})
    rows = [
        _row(variant, ratio, seeds, baseline)
        for variant, seeds in by_variant.items()
        for ratio in next(iter(seeds.values())).ranks
    ]
    return RecipeReport(
        recipe=recipe,
        num_users=found[0][1].result.num_users,
        rows=tuple(rows),
        costs=tuple(costs),
    )


def _row(
    variant: tuple[str, ...], ratio: float, seeds: dict[int, Judged], baseline: dict[int, Judged]
) -> Row:
    metrics = [
        {served.retention_ratio: served.metrics for served in judged.result.served}[ratio]
        for judged in seeds.values()
    ]
    trained = next(iter(seeds.values())).result.trained_ratio
    recall = np.array([each["recall@10"] for each in metrics])
    common = [seed for seed in seeds if seed in baseline]
    difference = low = high = None
    if common:
        own, other = (
            np.mean([recall_at_k(ranks, 10) for ranks in parts], axis=0)
            for parts in (
                [seeds[seed].ranks[ratio] for seed in common],
                [next(iter(baseline[seed].ranks.values())) for seed in common],
            )
        )
        difference = float((own - other).mean())
        low, high = bootstrap_interval(own - other, np.random.default_rng(0))
    return Row(
        variant=variant,
        retention_ratio=ratio,
        is_trained_ratio=ratio == trained,
        seeds=tuple(seeds),
        recall_at_10=float(recall.mean()),
        recall_at_10_sd=float(recall.std(ddof=1)) if len(recall) > 1 else None,
        recall_at_5=float(np.mean([each["recall@5"] for each in metrics])),
        ndcg_at_10=float(np.mean([each["ndcg@10"] for each in metrics])),
        difference=difference,
        difference_low=low,
        difference_high=high,
    )


def write_report(
    experiment: Experiment,
    reports: Sequence[RecipeReport],
    unfinished: int,
    environment: Environment,
    folder: Path,
) -> Path:
    """Write report.json, report.md and the plots into `folder`; return report.md."""
    document: dict[str, JsonValue] = {
        "experiment": experiment.model_dump(mode="json"),
        "recipes": [report.model_dump(mode="json") for report in reports],
        "unfinished_cells": unfinished,
        "environment": json.loads(json.dumps(environment)),
    }
    for report in reports:
        with atomic_path(folder / f"{report.recipe}.png") as part:
            plot_rows(report.recipe, report.rows, list(experiment.axes), part)
    texts = {
        "report.json": json.dumps(document, indent=1) + "\n",
        "report.md": render_markdown(experiment, reports, unfinished, environment),
    }
    for name, text in texts.items():
        with atomic_path(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    return folder / "report.md"


def render_markdown(
    experiment: Experiment,
    reports: Sequence[RecipeReport],
    unfinished: int,
    environment: Environment,
) -> str:
    """The report for people."""
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    parts = [
        f"# {experiment.title}",
        experiment.about.strip(),
        f"{environment['date']}, commit {environment['commit']}, `{environment['command']}`; "
        f"{environment['cpu']}, {environment['cores']} cores, {versions}. All items ranked, seen "
        "items left in, as in the papers. `+-` is the standard deviation over seeds; differences "
        f"are to `{' / '.join(experiment.baseline)}` with the same seeds and users, with their "
        "95 % interval from resampling users.",
    ]
    if unfinished:
        parts.append(f"**{unfinished} trainings are not finished.**")
    for report in reports:
        parts.append(
            f"## {report.recipe}\n\n{report.num_users:,} test users.\n\n"
            f"![recall@10 by variant]({report.recipe}.png)"
        )
        parts.append(_quality_table(experiment, report.rows))
        if report.costs:
            parts.append(_cost_table(experiment, report.costs))
    return "\n\n".join(part for part in parts if part) + "\n"


def _quality_table(experiment: Experiment, rows: Sequence[Row]) -> str:
    head = [*experiment.axes, "served at", "seeds", "R@5", "R@10", "N@10", "R@10 difference"]
    body = [
        [
            *row.variant,
            f"{row.retention_ratio:.2f}{' (as trained)' if row.is_trained_ratio else ''}",
            str(len(row.seeds)),
            f"{row.recall_at_5:.4f}",
            f"{row.recall_at_10:.4f}"
            + ("" if row.recall_at_10_sd is None else f" +- {row.recall_at_10_sd:.4f}"),
            f"{row.ndcg_at_10:.4f}",
            _difference(row),
        ]
        for row in rows
    ]
    return _table(head, body)


def _difference(row: Row) -> str:
    if row.difference is None or row.difference_low is None or row.difference_high is None:
        return "-"
    return f"{row.difference:+.4f} ({row.difference_low:+.4f} to {row.difference_high:+.4f})"


def _cost_table(experiment: Experiment, costs: Sequence[Cost]) -> str:
    """Time and memory of a training step, against the baseline in both layouts."""
    of = {(cost.variant, cost.layout): cost for cost in costs}
    same = {layout: of[experiment.baseline, layout] for layout in ("padded", "unpadded")}
    head = [*experiment.axes, "layout", "ms", "MB", "speed-up", "memory saved"]
    head += ["speed-up over padded baseline", "memory saved"]
    body = []
    for cost in costs:
        cells = [*cost.variant, cost.layout, f"{cost.train_ms:.2f}", f"{cost.activation_mb:.2f}"]
        for base in (same[cost.layout], same["padded"]):
            cells.append(f"{base.train_ms / cost.train_ms:.2f}")
            cells.append(f"{1 - cost.activation_mb / base.activation_mb:.1%}")
        body.append(cells)
    note = (
        "Forward and backward per window, least processor time over interleaved rounds; memory is "
        "what autograd holds in between. The first two gains are over the baseline in the same "
        "layout."
    )
    return f"{note}\n\n{_table(head, body)}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *map(list, body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
