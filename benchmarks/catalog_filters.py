"""Rules inside the beam against none, and against dropping what does not match afterwards."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.catalog_result import Batch, Filtered, Filters, PostFiltered
from model.engine import Engine, Query
from model.queries import Boost
from training.cost import interleaved_seconds

LIMIT = 20
WHERES = tuple(f"bucket < {buckets}" for buckets in (500, 100, 10, 1))
"""Half of the items, a tenth, a hundredth and a thousandth."""
BATCH_WHERES = (*WHERES, *(f"bucket >= {buckets}" for buckets in (500, 900, 990, 999)))
LISTED = 1000
ALLOWED, DENIED, BOOSTED = (f"{LISTED:,} {what}" for what in ("allowed", "denied", "boosted"))
AGAIN = " again"
"""Of a list that was made for the whole catalog; without it, no list ever is."""
NEVER = sys.maxsize
BEAM_WIDTHS = (50, 200, 500)
"""Of searches that are filtered afterwards."""
NO_RULE = "no rule"

Marks = npt.NDArray[np.bool_]
Histories = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Rule:
    """One rule for all users.

    Args:
        name: for people.
        marks: per user, (num_items,) bool, what may be found apart from the history.
        queries: one per user.
        new: to be asked as if it never came again.
    """

    name: str
    marks: list[Marks]
    queries: list[Query]
    new: bool = False


def measure_filters(
    engine: Engine, histories: Histories, *, timed: int, budget_s: float, min_rounds: int
) -> Filters:
    """All about one catalog.

    Args:
        engine: over it, before anything is added.
        histories: whose answers are checked.
        timed: so many of them are asked for in the rounds that count.
        budget_s: for these rounds.
        min_rounds: but at least so many.
    """
    rules = make_rules(engine, histories)
    compiled = {rule.name: _compile_ms(engine, rule.queries[0]) for rule in rules if not rule.new}
    checked = {rule.name: _checked(engine, rule) for rule in rules}
    works = {rule.name: _asking(engine, rule.queries[:timed], new=rule.new) for rule in rules}
    plain = [Query(history, limit=LIMIT) for history in histories]
    best = interleaved_seconds(
        works | {NO_RULE: _asking(engine, plain[:timed])}, budget_s, min_rounds
    )
    request_ms = {name: 1e3 * seconds / timed for name, seconds in best.items()}
    in_beam = [
        Filtered(
            items=len(engine.catalog),
            rule=rule.name,
            share=round(float(rule.marks[0].mean()), 6),
            returned=round(float(np.mean(checked[rule.name].returned)), 2),
            least_returned=min(checked[rule.name].returned),
            full=checked[rule.name].full,
            legal=checked[rule.name].legal,
            request_ms=round(request_ms[rule.name], 3),
            ratio=round(request_ms[rule.name] / request_ms[NO_RULE], 3),
            compile_ms=compiled.get(rule.name),
        )
        for rule in rules
    ]
    afterwards = [_afterwards(engine, rules, width, request_ms[NO_RULE]) for width in BEAM_WIDTHS]
    return Filters(in_beam, afterwards, [_batch(engine, histories, budget_s, min_rounds)])


def make_rules(engine: Engine, histories: Histories) -> list[Rule]:
    """Filters by an attribute, the same for everyone; and lists of each user's own."""
    bucket = engine.catalog.frame["bucket"].to_numpy()
    rules = []
    for where in WHERES:
        marks = bucket < int(where.rpartition(" ")[2])
        queries = [Query(history, limit=LIMIT, where=where) for history in histories]
        rules.append(Rule(where, [marks] * len(histories), queries))
    random, num_items = np.random.default_rng(3), len(engine.catalog)
    lists = [random.choice(num_items, min(LISTED, num_items), replace=False) for _ in histories]
    listed = [_marks(each, num_items) for each in lists]
    users = list(zip(histories, [tuple(each.tolist()) for each in lists], strict=True))
    allowed = [Query(history, limit=LIMIT, allow=items) for history, items in users]
    denied = [Query(history, limit=LIMIT, deny=items) for history, items in users]
    boosted = [
        Query(history, limit=LIMIT, boosts=(Boost(by=1.0, items=items),))
        for history, items in users
    ]
    everything = [np.ones(num_items, dtype=bool)] * len(histories)
    lists_of = [
        (ALLOWED, listed, allowed),
        (DENIED, [~marks for marks in listed], denied),
        (BOOSTED, everything, boosted),
    ]
    for name, marks_of, queries in lists_of:
        rules += [Rule(name, marks_of, queries, new=True), Rule(name + AGAIN, marks_of, queries)]
    return rules


@dataclass(frozen=True)
class _Check:
    """Items of each answer, and whether all were as they must be."""

    returned: list[int]
    full: bool
    legal: bool


def _checked(engine: Engine, rule: Rule) -> _Check:
    """Ask for every user."""
    returned, full, legal = [], True, True
    engine.inventory.min_uses = NEVER if rule.new else 1
    for query, marks in zip(rule.queries, rule.marks, strict=True):
        found = _items(engine, query)
        num_seen = int(np.count_nonzero(marks[np.unique(query.history)]))
        exist = int(np.count_nonzero(marks)) - num_seen
        full &= len(set(found)) == len(found) == min(LIMIT, exist)
        legal &= bool(marks[found].all()) and not set(found) & set(query.history)
        returned.append(len(found))
    return _Check(returned, full, legal)


def _afterwards(
    engine: Engine, rules: Sequence[Rule], beam_width: int, default_ms: float
) -> PostFiltered:
    """One wide search per user, and what each rule leaves of it."""
    left: dict[str, list[int]] = {rule.name: [] for rule in rules}
    seconds = []
    for user, query in enumerate(rules[0].queries):
        wide = Query(query.history, limit=beam_width, beam_width=beam_width)
        start = time.process_time()
        found = _items(engine, wide)
        seconds.append(time.process_time() - start)
        for rule in rules:
            left[rule.name].append(min(LIMIT, int(rule.marks[user][found].sum())))
    milliseconds = 1e3 * float(np.median(seconds))
    return PostFiltered(
        items=len(engine.catalog),
        beam_width=beam_width,
        request_ms=round(milliseconds, 3),
        ratio=round(milliseconds / default_ms, 3),
        returned={name: round(float(np.mean(counts)), 2) for name, counts in left.items()},
    )


def _batch(engine: Engine, histories: Histories, budget_s: float, min_rounds: int) -> Batch:
    rows = list(zip(histories, BATCH_WHERES, strict=False))
    batches: Mapping[str, list[Query]] = {
        NO_RULE: [Query(history, limit=LIMIT) for history, _ in rows],
        "filters": [Query(history, limit=LIMIT, where=where) for history, where in rows],
    }
    works = {name: lambda batch=batch: engine.recommend(batch) for name, batch in batches.items()}
    best = interleaved_seconds(works, budget_s / 4, min_rounds)
    ratio = best["filters"] / best[NO_RULE]
    return Batch(len(engine.catalog), round(1e3 * best["filters"], 3), round(ratio, 3))


def _compile_ms(engine: Engine, query: Query) -> float:
    """What a rule takes when it is made for the whole catalog: the least of a few first uses."""
    found, inventory = [], engine.inventory
    for _ in range(3):
        inventory.forget()
        inventory.min_uses = 1
        start = time.process_time()
        inventory.listed(query.where, query.allow, query.deny)
        inventory.shelf(query.where)
        inventory.biases(query.boosts, query.where)
        found.append(time.process_time() - start)
    return round(1e3 * min(found), 3)


def _asking(engine: Engine, queries: Sequence[Query], *, new: bool = False) -> Callable[[], None]:
    def work() -> None:
        engine.inventory.min_uses = NEVER if new else 1
        for query in queries:
            engine.recommend([query])

    return work


def _items(engine: Engine, query: Query) -> list[int]:
    return [item.item_index for item in engine.recommend([query])[0].items]


def _marks(items: npt.NDArray[np.int64], num_items: int) -> Marks:
    marks = np.zeros(num_items, dtype=bool)
    marks[items] = True
    return marks
