"""Forecasts: what a batcher expects its rows and batches to take; it tells what they took."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

RequestT_contra = TypeVar("RequestT_contra", contravariant=True)
JobT = TypeVar("JobT")

MEMORY = 0.1


class Forecast(Protocol[RequestT_contra, JobT]):
    """Predicted seconds; requests before they are prepared, jobs after."""

    @property
    def correction(self) -> float:
        """By what to multiply sums of `row_s`; the latest batches decide."""
        ...

    def row_s(self, request: RequestT_contra) -> float:
        """A row's part of a large batch, before the correction."""
        ...

    def alike_s(self, request: RequestT_contra, rows: int) -> float:
        """A batch of so many rows like this one, with the least effort."""
        ...

    def batch_s(self, jobs: Sequence[JobT]) -> float:
        """A batch of these rows."""
        ...

    def efforts(self, backlog_s: float) -> Sequence[int]:
        """With what effort to try a batch, the greatest first.

        Args:
            backlog_s: predicted seconds of what goes on waiting.
        """
        ...

    def adapted(self, jobs: Sequence[JobT], effort: int) -> list[JobT]:
        """The jobs with that effort; `batch_s` depends on it."""
        ...

    def learn(self, jobs: Sequence[JobT], predicted_s: float, measured_s: float) -> None:
        """A batch took another time than predicted, from when it was formed to its answers."""
        ...


class Average:
    """Every row is expected to take what rows took lately; nothing at first."""

    def __init__(self) -> None:
        self.correction = 0.0

    def row_s(self, request: object) -> float:  # noqa: ARG002  # all are alike
        """One."""
        return 1.0

    def alike_s(self, request: object, rows: int) -> float:  # noqa: ARG002  # all are alike
        """So many times the average."""
        return rows * self.correction

    def batch_s(self, jobs: Sequence[object]) -> float:
        """The average of each."""
        return len(jobs) * self.correction

    def efforts(self, backlog_s: float) -> Sequence[int]:  # noqa: ARG002  # there is but one
        """One."""
        return (0,)

    def adapted(self, jobs: Sequence[JobT], effort: int) -> list[JobT]:  # noqa: ARG002
        """As they are."""
        return list(jobs)

    def learn(self, jobs: Sequence[object], predicted_s: float, measured_s: float) -> None:  # noqa: ARG002
        """Move the average."""
        newest = measured_s / len(jobs)
        self.correction += (MEMORY if self.correction else 1.0) * (newest - self.correction)
