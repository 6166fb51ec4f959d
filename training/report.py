"""The evaluation of one trained model, beside baselines on the same users, and how it is shown."""

import time

import numpy as np
from pydantic import BaseModel
from rich.progress import Progress
from rich.table import Table

from model.bundle import RetentionProfile
from model.engine import Engine
from training.baselines import Baseline, evaluate_baseline, fit_baseline
from training.config import EvaluationConfig
from training.evaluate import LIMIT, Quality, beam_gap, evaluate, sap_profile, some
from training.splits import Examples, Split

Metrics = dict[str, float]

SHOWN = ("recall@5", "recall@10", "recall@20", "ndcg@10", "coverage@10")


class BaselineReport(BaseModel, frozen=True, extra="forbid"):
    """What baselines reach on the test split, by name: with seen items left out, and left in.

    `seconds` is what each took to fit.
    """

    num_users: int
    seconds: dict[str, float]
    metrics: dict[str, Metrics]
    unmasked: dict[str, Metrics]


class Evaluation(BaseModel, frozen=True, extra="forbid"):
    """What was measured on the test split.

    `metrics` is the model as served; `unmasked` the same with seen items left in, which is how
    papers rank. Baselines come both ways too, on the same users.
    """

    num_users: int
    beam_width: int
    metrics: Metrics
    unmasked: Metrics
    baselines: dict[str, Metrics]
    baselines_unmasked: dict[str, Metrics]
    subsets: dict[str, Metrics]
    beam_gap: Metrics
    sap_profile: tuple[RetentionProfile, ...]


def measure_baselines(split: Split, num_items: int, config: EvaluationConfig) -> BaselineReport:
    """Fit a recipe's baselines and evaluate them on the users that test its model."""
    test = some(split.test, config.max_users)
    seconds, masked, unmasked = {}, {}, {}
    for name in config.baselines:
        start = time.perf_counter()
        baseline = fit_baseline(name, split, num_items, config.sasrec)
        seconds[name] = time.perf_counter() - start
        masked[name] = baseline_metrics(baseline, test, num_items, exclude_seen=True)
        unmasked[name] = baseline_metrics(baseline, test, num_items, exclude_seen=False)
    return BaselineReport(num_users=len(test), seconds=seconds, metrics=masked, unmasked=unmasked)


def baseline_metrics(
    baseline: Baseline, test: Examples, num_items: int, *, exclude_seen: bool
) -> Metrics:
    """One baseline on the test users."""
    result = evaluate_baseline(
        baseline, test, num_items, limit=min(LIMIT, num_items), exclude_seen=exclude_seen
    )
    return Quality.of(result.ranks, result.recommended, num_items).metrics


def measure(
    engine: Engine, split: Split, config: EvaluationConfig, baselines: BaselineReport
) -> Evaluation:
    """Evaluate a model, beside baselines measured on the same users."""
    test = some(split.test, config.max_users)
    valid = some(split.valid, config.max_users)
    with Progress(transient=True) as bar:
        task = bar.add_task("evaluating", total=2 * len(test))
        served, unmasked = (
            evaluate(
                engine,
                test,
                beam_width=config.beam_width,
                exclude_seen=exclude_seen,
                progress=lambda count: bar.advance(task, count),
            )
            for exclude_seen in (True, False)
        )
    return Evaluation(
        num_users=len(test),
        beam_width=config.beam_width,
        metrics=served.metrics,
        unmasked=unmasked.metrics,
        baselines=baselines.metrics,
        baselines_unmasked=baselines.unmasked,
        subsets=subset_metrics(served, test),
        beam_gap=beam_gap(engine, some(test, config.exact_users), beam_width=config.beam_width),
        sap_profile=sap_profile(engine, valid, config),
    )


def subset_metrics(quality: Quality, test: Examples) -> dict[str, Metrics]:
    """The served model on later-day targets, and on users with more than 10 and 20 items."""
    subsets = {f"> {n} items": test.positions > n for n in (10, 20)}
    same_day = test.same_day()
    if same_day is not None:
        subsets["later day"] = ~same_day
    return {
        name: {
            "users": float(chosen.sum()),
            "recall@10": float(np.mean(quality.ranks[chosen] <= 10)),
        }
        for name, chosen in subsets.items()
        if chosen.any()
    }


def render_baselines(found: BaselineReport) -> Table:
    """The baselines, one line each, with seen items left out and left in."""
    title = f"Test split, {found.num_users:,} users, all items ranked"
    table = _table(title, {"left out": found.metrics, "left in": found.unmasked})
    table.caption = "fitted in " + ", ".join(
        f"{seconds:,.1f} s ({name})" for name, seconds in found.seconds.items()
    )
    return table


def render_evaluation(found: Evaluation) -> Table:
    """The model and its baselines, one line each, as served and unmasked."""
    table = _table(
        f"Test split, {found.num_users:,} users, all items ranked, beam {found.beam_width}",
        {
            "left out": {"this model": found.metrics, **found.baselines},
            "left in": {"this model": found.unmasked, **found.baselines_unmasked},
        },
    )
    low, high = found.metrics["recall@10_low"], found.metrics["recall@10_high"]
    profile = ", ".join(
        f"{p.retention_ratio:.2f}: {p.recall_at_10:.4f} at {p.relative_cost:.2f}x"
        for p in found.sap_profile
    )
    gap = found.beam_gap
    table.caption = (
        f"recall@10 of the model: 95 % interval {low:.4f} to {high:.4f}\n"
        f"retention ratio: validation recall@10 at encoder time: {profile}\n"
        f"beam {found.beam_width} finds {gap['overlap@10']:.1%} of what exact decoding finds; "
        f"recall@10 {gap['recall@10_beam']:.4f} against {gap['recall@10_exact']:.4f} "
        f"({gap['users']:.0f} users)"
    )
    return table


def _table(title: str, rows: dict[str, dict[str, Metrics]]) -> Table:
    """The metrics of recommenders by what is done with seen items, and by name."""
    table = Table(title=title)
    table.add_column("recommender")
    table.add_column("seen items")
    for metric in SHOWN:
        table.add_column(metric, justify="right")
    for seen, recommenders in rows.items():
        for name, metrics in recommenders.items():
            table.add_row(name, seen, *(f"{metrics[metric]:.4f}" for metric in SHOWN))
        table.add_section()
    return table
