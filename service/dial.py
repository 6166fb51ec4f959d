"""Dial: less effort for an answer when time is short, and never behind the caller's back.

An *effort* is a number: 0 is what a request gets by default, each further one is cheaper. First the
history is pruned more, as far as that was validated; then the beam gets narrower, down to half.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from model.engine import Engine, Query
from service.cost import CostModel
from service.recommender import Job
from service.schemas import Saving

BEAM_SHARES = (0.7, 0.5)
"""Of the default beam width."""
WORTH_IT = 0.97
"""An effort must take at most this much of the time of the one before."""


@dataclass(frozen=True)
class Notch:
    """What one effort means.

    Args:
        retention_ratio: at most.
        beam_share: of the default beam width, but never fewer beams than items asked for.
    """

    retention_ratio: float
    beam_share: float = 1.0


@dataclass(frozen=True)
class Dial:
    """The efforts that an engine's requests may be given.

    Args:
        engine: that computes.
        notches: what they mean, the greatest first.
        wait_s: predicted seconds in the queue for each step down; 0 = no effort but the greatest.
    """

    engine: Engine
    notches: tuple[Notch, ...]
    wait_s: float

    @classmethod
    def of(cls, engine: Engine, costs: CostModel, wait_s: float, rows: int) -> Self:
        """Of the engine's validated retention ratios and beam widths, those that save time.

        They are judged by a batch of so many `rows`, as many as share one when time is short.
        """
        shape = engine.shape(Query(range(engine.lengths[-1])))
        ratios = [ratio for ratio in engine.retention_ratios if ratio < shape.retention_ratio]
        possible = [Notch(ratio) for ratio in reversed(ratios)]
        lowest = min(engine.retention_ratios[0], shape.retention_ratio)
        possible += [Notch(lowest, share) for share in BEAM_SHARES]
        notches = [Notch(shape.retention_ratio)]
        least_s = costs.group_s(shape, rows)
        for notch in possible if wait_s else ():
            beam_width = math.ceil(notch.beam_share * shape.beam_width)
            cheaper = replace(shape, retention_ratio=notch.retention_ratio, beam_width=beam_width)
            seconds = costs.group_s(cheaper, rows)
            if seconds < WORTH_IT * least_s:
                notches.append(notch)
                least_s = seconds
        return cls(engine, tuple(notches), wait_s)

    def efforts(self, backlog_s: float) -> range:
        """Those to try, the greatest first: the longer the queue, the less to begin with.

        Args:
            backlog_s: predicted seconds of what goes on waiting.
        """
        last = len(self.notches) - 1
        first = min(last, int(backlog_s / self.wait_s)) if self.wait_s else 0
        return range(first, last + 1)

    def adapted(self, jobs: Sequence[Job], effort: int) -> list[Job]:
        """The jobs with that effort, where their requests leave it open."""
        return list(jobs) if effort == 0 else [self._adapted(job, effort) for job in jobs]

    def query(self, query: Query, effort: int, *, ratio: bool, beam: bool) -> Query:
        """A query with that effort.

        Args:
            query: with a history.
            effort: of `efforts`.
            ratio: whether its retention ratio may change.
            beam: whether its beam width may change.
        """
        notch, shape = self.notches[effort], self.engine.shape(query)
        narrow = max(query.limit, math.ceil(notch.beam_share * shape.beam_width))
        return replace(
            query,
            retention_ratio=min(shape.retention_ratio, notch.retention_ratio)
            if ratio
            else query.retention_ratio,
            beam_width=min(shape.beam_width, narrow) if beam else query.beam_width,
        )

    def _adapted(self, job: Job, effort: int) -> Job:
        if not job.query.history:
            return job
        request = job.request
        query = self.query(
            job.query,
            effort,
            ratio=request.retention_ratio is None,
            beam=request.beam_width is None,
        )
        before, after = self.engine.shape(job.query), self.engine.shape(query)
        saved: list[Saving] = []
        if after.beam_width < before.beam_width:
            saved.append("beam_width")
        if after.retention_ratio < before.retention_ratio:
            saved.append("retention_ratio")
        return replace(job, query=query, saved=tuple(saved))
