"""What the catalog benchmark found, as it is printed and recorded."""

from dataclasses import asdict, dataclass

from training.environment import Environment

MOST_GROWTH = 1.3  # request time at the largest size against the smallest
MOST_BUILD_S = 10.0
MOST_LOAD_S = 1.0
MOST_FILTER_COST = 1.10  # request time with a filter against none


@dataclass(frozen=True)
class Growth:
    """One size of the catalog; times are least seconds of processor time.

    Args:
        items: in the catalog.
        leaves: distinct semantic IDs.
        request_ms: one history, one request.
        build_s: from codes to leaves and trie.
        load_s: from files to an engine that can answer, mapped, catalog aside.
        verify_s: SHA-256 of these files.
        bytes_per_item: of leaves, trie and codes, all of it mapped.
        own_mb: memory of the process's own that loading and the first answers took.
        mapped_mb: pages of the files that they touched.
        catalog_s: making ids, titles and attributes, and the table to find ids by.
        catalog_bytes_per_item: what these take, none of it mapped.
        add_one_ms: one new item with its vector.
        add_hundred_ms: a hundred of them at once.
        change_ms: another attribute for an item.
        first_removal_ms: the first item that is taken out.
        removal_ms: any further one.
    """

    items: int
    leaves: int
    request_ms: float
    build_s: float
    load_s: float
    verify_s: float
    bytes_per_item: float
    own_mb: float
    mapped_mb: float
    catalog_s: float
    catalog_bytes_per_item: float
    add_one_ms: float
    add_hundred_ms: float
    change_ms: float
    first_removal_ms: float
    removal_ms: float


@dataclass(frozen=True)
class Filtered:
    """One rule inside the beam, over all users.

    Args:
        items: in the catalog.
        rule: a filter expression, or what the lists are.
        share: of the catalog that may be found.
        returned: items of an answer, on average.
        least_returned: of the shortest answer.
        full: whether every answer had as many items as asked for, or all that exist.
        legal: whether nothing else was in any.
        request_ms: one history, one request, the filter being known.
        ratio: of that to a request without rule.
        compile_ms: what it takes to make it for the whole catalog; None = that is not done.
    """

    items: int
    rule: str
    share: float
    returned: float
    least_returned: int
    full: bool
    legal: bool
    request_ms: float
    ratio: float
    compile_ms: float | None


@dataclass(frozen=True)
class PostFiltered:
    """The same engine without rules; what does not match is dropped afterwards.

    Args:
        items: in the catalog.
        beam_width: all of whose items are looked at.
        request_ms: one history, one request.
        ratio: of that to the default beam.
        returned: by rule, items that are left, on average.
    """

    items: int
    beam_width: int
    request_ms: float
    ratio: float
    returned: dict[str, float]


@dataclass(frozen=True)
class Batch:
    """Eight rows at once, each with a filter of its own, against eight without."""

    items: int
    request_ms: float
    ratio: float


@dataclass(frozen=True)
class Filters:
    """All about rules."""

    in_beam: list[Filtered]
    afterwards: list[PostFiltered]
    batches: list[Batch]


@dataclass(frozen=True)
class Verdict:
    """One target and what was found."""

    what: str
    target: float
    found: float
    reached: bool


@dataclass(frozen=True)
class Result:
    """Everything."""

    growth: list[Growth]
    filters: Filters
    quick: bool
    environment: Environment

    @property
    def headline(self) -> dict[str, float]:
        """What has targets; without a run of 10M items, of the largest there is."""
        first, last = self.growth[0], self.growth[-1]
        return {
            "latency_ratio_10m_vs_12k": round(last.request_ms / first.request_ms, 3),
            "build_s_10m": last.build_s,
            "load_s_10m": last.load_s,
            "bytes_per_item_10m": last.bytes_per_item,
        }

    def verdicts(self) -> list[Verdict]:
        """Every target; all but the share of full and legal answers are upper limits."""
        found, rules = self.headline, self.filters.in_beam
        limits = [
            ("latency_ratio_10m_vs_12k", MOST_GROWTH, found["latency_ratio_10m_vs_12k"]),
            ("build_s_10m", MOST_BUILD_S, found["build_s_10m"]),
            ("load_s_10m", MOST_LOAD_S, found["load_s_10m"]),
        ]
        limits += [
            (f"request ratio, {each.items:,} items, {each.rule}", MOST_FILTER_COST, each.ratio)
            for each in rules
        ]
        limits += [
            (f"request ratio, {each.items:,} items, 8 filters", MOST_FILTER_COST, each.ratio)
            for each in self.filters.batches
        ]
        good = sum(each.full and each.legal for each in rules) / len(rules)
        return [
            *(Verdict(what, limit, value, value <= limit) for what, limit, value in limits),
            Verdict("rules whose answers are all full and legal, share", 1.0, good, good == 1),
        ]

    def to_json(self) -> dict[str, object]:
        """One object, the headline at its top."""
        details = asdict(self)
        return {
            **self.headline,
            "largest_items": self.growth[-1].items,
            "benchmark": "catalog",
            "quick": self.quick,
            "verdicts": [asdict(verdict) for verdict in self.verdicts()],
            "growth": details["growth"],
            "filters": details["filters"],
            "environment": self.environment,
        }
