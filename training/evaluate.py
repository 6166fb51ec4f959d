"""Quality on a split, measured through Engine.recommend: the code that serves."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model.bundle import RetentionProfile
from model.engine import Engine, Query
from training.evaluation_config import EvaluationConfig
from training.metrics import (
    Floats,
    Ints,
    bootstrap_interval,
    coverage_at_k,
    ndcg_at_k,
    ranks_in_lists,
    recall_at_k,
)
from training.splits import Examples

LIMIT = 20
CUTOFFS = (5, 10, 20)
BATCH = 64

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Quality:
    """How well lists of recommendations found the held-out items.

    Args:
        ranks: (num_users,) rank of each target from 1, inf where it is not in the list.
        metrics: recall, ndcg at 5, 10, 20, coverage, and the 95 % interval of recall@10.
    """

    ranks: Floats
    metrics: dict[str, float]

    @classmethod
    def of(cls, ranks: Floats, lists: Ints, num_items: int) -> "Quality":
        """Summarise ranks, and lists for coverage."""
        coverage = coverage_at_k(lists, num_items, 10)
        return cls(ranks, rank_metrics(ranks) | {"coverage@10": coverage})


def rank_metrics(ranks: Floats) -> dict[str, float]:
    """Recall and ndcg at 5, 10, 20, and the 95 % interval of recall@10 from resampling users."""
    metrics: dict[str, float] = {}
    for k in CUTOFFS:
        metrics[f"recall@{k}"] = float(recall_at_k(ranks, k).mean())
        metrics[f"ndcg@{k}"] = float(ndcg_at_k(ranks, k).mean())
    low, high = bootstrap_interval(recall_at_k(ranks, 10), np.random.default_rng(0))
    return metrics | {"recall@10_low": low, "recall@10_high": high}


def subset_metrics(ranks: Floats, test: Examples) -> dict[str, dict[str, float]]:
    """Targets of a later day than the item before, and users with more than 10 and 20 items.

    Amazon's times are whole days, within which items stand in the order of their ids: a target of
    the same day can be guessed from the alphabet. Each with its number of users; an empty subset
    is left out, and `later day` where times are unknown.
    """
    subsets = {f"> {n} items": test.positions > n for n in (10, 20)}
    same_day = test.same_day()
    if same_day is not None:
        subsets["later day"] = ~same_day
    return {
        name: {"users": float(chosen.sum())} | rank_metrics(ranks[chosen])
        for name, chosen in subsets.items()
        if chosen.any()
    }


def some(examples: Examples, max_users: int) -> Examples:
    """At most max_users examples, evenly spread, the same ones every time."""
    if len(examples) <= max_users:
        return examples
    return examples.take(np.linspace(0, len(examples) - 1, max_users).astype(np.int64))


def recommend_lists(
    engine: Engine,
    examples: Examples,
    *,
    beam_width: int,
    retention_ratio: float | None = None,
    exclude_seen: bool = True,
    exact: bool = False,
    limit: int = LIMIT,
    progress: Progress | None = None,
) -> Ints:
    """(num_examples, limit) item indices as served, -1 behind the end of a short answer."""
    lists = np.full((len(examples), limit), -1, dtype=np.int64)
    order = np.argsort(examples.positions, kind="stable")  # like lengths share a batch
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        queries = [
            Query(
                history=examples.history(int(place)).tolist(),
                limit=limit,
                beam_width=beam_width,
                retention_ratio=retention_ratio,
                exclude_seen=exclude_seen,
                decode="exact" if exact else "beam",
            )
            for place in places
        ]
        for place, answer in zip(places, engine.recommend(queries), strict=True):
            found = [item.item_index for item in answer.items]
            lists[place, : len(found)] = found
        if progress is not None:
            progress(len(places))
    return lists


def evaluate(
    engine: Engine,
    examples: Examples,
    *,
    beam_width: int,
    retention_ratio: float | None = None,
    exclude_seen: bool = True,
    progress: Progress | None = None,
) -> Quality:
    """Recommend for every example and compare with its target."""
    lists = recommend_lists(
        engine,
        examples,
        beam_width=beam_width,
        retention_ratio=retention_ratio,
        exclude_seen=exclude_seen,
        limit=min(LIMIT, beam_width),
        progress=progress,
    )
    ranks = ranks_in_lists(lists, examples.targets)
    return Quality.of(ranks, lists, len(engine.catalog))


def beam_gaps(
    engine: Engine, examples: Examples, beam_widths: Sequence[int]
) -> dict[str, dict[str, float]]:
    """How far beams of some widths are from exact decoding, on the same users.

    Returns:
        by width and for "exact", recall and ndcg at 5 and 10; and for a width the share of exact's
        first ten items that the beam found too, and the share of users for whom the two first
        tens are the same.
    """
    exact = recommend_lists(engine, examples, beam_width=max(beam_widths), exact=True, limit=10)
    found = {}
    for width in beam_widths:
        beam = recommend_lists(engine, examples, beam_width=width, limit=10)
        common = (exact[:, :, None] == beam[:, None, :]).any(axis=2) & (exact >= 0)
        found[str(width)] = _first_ten(beam, examples) | {
            "overlap@10": float(common.sum() / (exact >= 0).sum()),
            "identical@10": float((beam == exact).all(axis=1).mean()),
        }
    return found | {"exact": _first_ten(exact, examples)}


def _first_ten(lists: Ints, examples: Examples) -> dict[str, float]:
    ranks = ranks_in_lists(lists, examples.targets)
    return {
        f"{name}@{k}": float(metric(ranks, k).mean())
        for k in (5, 10)
        for name, metric in (("recall", recall_at_k), ("ndcg", ndcg_at_k))
    }


def sap_profile(
    engine: Engine, valid: Examples, config: EvaluationConfig
) -> tuple[RetentionProfile, ...]:
    """Each retention ratio's validation recall and cost relative to no pruning, in one run."""
    trained = engine.manifest.model.default_retention_ratio
    ratios = sorted({*config.retention_ratios, trained, 1.0})
    seconds = encoder_seconds(engine, valid, ratios)
    return tuple(
        RetentionProfile(
            retention_ratio=ratio,
            recall_at_10=evaluate(
                engine, valid, beam_width=config.beam_width, retention_ratio=ratio
            ).metrics["recall@10"],
            relative_cost=seconds[ratio] / seconds[1.0],
        )
        for ratio in ratios
    )


@torch.inference_mode()
def encoder_seconds(
    engine: Engine, examples: Examples, ratios: Sequence[float], *, rounds: int = 7
) -> dict[float, float]:
    """Fastest of several encodings of one batch of long histories per ratio, taken in turn."""
    longest = np.argsort(-examples.positions, kind="stable")[:16]
    histories = [examples.history(int(place)).tolist() for place in longest]
    config = engine.manifest.model
    num_items = min(max(map(len, histories)), config.max_history_items)
    tokens, mask = engine.sids.pack(histories, separator=config.separator, num_items=num_items)
    on_device = [torch.from_numpy(array).to(engine.device) for array in (tokens, mask)]
    best = dict.fromkeys(ratios, float("inf"))
    for _ in range(rounds):
        for ratio in ratios:
            start = time.perf_counter()
            engine.model.prompt(on_device[0], on_device[1], ratio)
            best[ratio] = min(best[ratio], time.perf_counter() - start)
    return best
