"""One line of an experiment's table."""

from pydantic import BaseModel


class Row(BaseModel, frozen=True, extra="forbid"):
    """A variant served at one retention ratio; means over seeds.

    The differences in recall@10 are to the baseline's variant on the seeds that both have; None
    where they have none in common, and recall_at_10_sd for a single seed.
    """

    variant: tuple[str, ...]
    retention_ratio: float
    is_trained_ratio: bool
    seeds: tuple[int, ...]
    recall_at_5: float
    recall_at_10: float
    recall_at_10_sd: float | None
    ndcg_at_10: float
    difference: float | None
    difference_low: float | None
    difference_high: float | None
