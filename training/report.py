"""The evaluation of one trained model, beside baselines on the same users, and how it is shown."""

import time

from pydantic import BaseModel
from rich.progress import Progress
from rich.table import Table

from model.bundle import RetentionProfile
from model.engine import Engine
from training.baselines import Baseline, evaluate_baseline, fit_baseline
from training.evaluate import LIMIT, Quality, beam_gaps, evaluate, sap_profile, some, subset_metrics
from training.evaluation_config import EvaluationConfig
from training.splits import Examples, Split

Metrics = dict[str, float]

MODEL = "this model"
SHOWN = ("recall@5", "recall@10", "recall@20", "ndcg@10", "coverage@10")


class BaselineReport(BaseModel, frozen=True, extra="forbid"):
    """What baselines reach on the test split, by name: with seen items left out, and left in.

    `seconds` is what each took to fit; `subsets` and `subsets_unmasked` are by baseline, then by
    subset.
    """

    num_users: int
    seconds: dict[str, float]
    metrics: dict[str, Metrics]
    unmasked: dict[str, Metrics]
    subsets: dict[str, dict[str, Metrics]]
    subsets_unmasked: dict[str, dict[str, Metrics]]


class Evaluation(BaseModel, frozen=True, extra="forbid"):
    """What was measured on the test split.

    `metrics` is the model as served; `unmasked` the same with seen items left in, which is how
    papers rank. Baselines come both ways too, on the same users. `beams` is by beam width, and
    "exact", on `exact_users` of them; `subsets` is by recommender, then by subset.
    """

    num_users: int
    beam_width: int
    metrics: Metrics
    unmasked: Metrics
    baselines: dict[str, Metrics]
    baselines_unmasked: dict[str, Metrics]
    subsets: dict[str, dict[str, Metrics]]
    subsets_unmasked: dict[str, dict[str, Metrics]]
    exact_users: int
    beams: dict[str, Metrics]
    sap_profile: tuple[RetentionProfile, ...]


def measure_baselines(split: Split, num_items: int, config: EvaluationConfig) -> BaselineReport:
    """Fit a recipe's baselines and evaluate them on the users that test its model."""
    test = some(split.test, config.max_users)
    seconds = {}
    found: dict[bool, dict[str, Quality]] = {True: {}, False: {}}
    for name in config.baselines:
        start = time.perf_counter()
        baseline = fit_baseline(name, split, num_items, config.sasrec)
        seconds[name] = time.perf_counter() - start
        for exclude_seen, qualities in found.items():
            qualities[name] = baseline_quality(baseline, test, num_items, exclude_seen=exclude_seen)
    masked, unmasked = found[True], found[False]
    return BaselineReport(
        num_users=len(test),
        seconds=seconds,
        metrics={name: quality.metrics for name, quality in masked.items()},
        unmasked={name: quality.metrics for name, quality in unmasked.items()},
        subsets={name: subset_metrics(each.ranks, test) for name, each in masked.items()},
        subsets_unmasked={
            name: subset_metrics(each.ranks, test) for name, each in unmasked.items()
        },
    )


def _of_subsets(qualities: dict[str, Quality], test: Examples) -> dict[str, dict[str, Metrics]]:
    return {name: subset_metrics(each.ranks, test) for name, each in qualities.items()}


def baseline_quality(
    baseline: Baseline, test: Examples, num_items: int, *, exclude_seen: bool
) -> Quality:
    """One baseline on the test users."""
    result = evaluate_baseline(
        baseline, test, num_items, limit=min(LIMIT, num_items), exclude_seen=exclude_seen
    )
    return Quality.of(result.ranks, result.recommended, num_items)


def measure(
    engine: Engine, split: Split, config: EvaluationConfig, baselines: BaselineReport
) -> Evaluation:
    """Evaluate a model, beside baselines measured on the same users."""
    test = some(split.test, config.max_users)
    valid = some(split.valid, config.max_users)
    compared = some(test, config.exact_users)
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
        subsets={MODEL: subset_metrics(served.ranks, test), **baselines.subsets},
        subsets_unmasked={
            MODEL: subset_metrics(unmasked.ranks, test),
            **baselines.subsets_unmasked,
        },
        exact_users=len(compared),
        beams=beam_gaps(engine, compared, config.beam_widths),
        sap_profile=sap_profile(engine, valid, config),
    )


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
            "left out": {MODEL: found.metrics, **found.baselines},
            "left in": {MODEL: found.unmasked, **found.baselines_unmasked},
        },
    )
    low, high = found.metrics["recall@10_low"], found.metrics["recall@10_high"]
    profile = ", ".join(
        f"{p.retention_ratio:.2f}: {p.recall_at_10:.4f} at {p.relative_cost:.2f}x"
        for p in found.sap_profile
    )
    table.caption = (
        f"recall@10 of the model: 95 % interval {low:.4f} to {high:.4f}\n"
        f"retention ratio: validation recall@10 at encoder time: {profile}\n"
        f"{_beams(found)}\n{_subsets(found)}"
    )
    return table


def _beams(found: Evaluation) -> str:
    widths = ", ".join(
        f"{width}: {metrics['recall@10']:.4f}"
        + (f" ({metrics['overlap@10']:.1%} of exact's)" if "overlap@10" in metrics else "")
        for width, metrics in found.beams.items()
    )
    return f"recall@10 by beam width on {found.exact_users:,} users: {widths} decoding"


def _subsets(found: Evaluation) -> str:
    """Recall of every recommender on every subset, seen items left out."""
    return "\n".join(
        f"recall@10, {subset} ({metrics['users']:,.0f} users): "
        + ", ".join(
            f"{name} {each[subset]['recall@10']:.4f}" for name, each in found.subsets.items()
        )
        for subset, metrics in found.subsets[MODEL].items()
    )


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
