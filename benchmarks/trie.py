"""The index alone, without a model: python -m benchmarks.trie [--quick] [--json].

STATIC's own protocol (arXiv 2602.22647): scores are random, and beam search finds the best semantic
IDs of a catalog. Ours is the beam search that serves; its peers are in trie_peers.py. Before
anything is timed, all must have found the same semantic IDs with the same scores.
Shape words: batch, beams, levels, vocabulary.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.trie_ours import LEVEL_BY_LEVEL, Replay, find, num_bytes, trie_of
from benchmarks.trie_peers import Codes, DictTrie, Found, StaticIndex, unconstrained
from benchmarks.trie_rectokens import RecTokens
from benchmarks.trie_report import show, write_record
from benchmarks.trie_result import (
    BY_LEVEL,
    COMPILED,
    HEADLINE_SIDS,
    MEMORY,
    NO_CATALOG,
    OURS,
    SOFTMAX,
    STATIC,
    BuildCell,
    Result,
    SearchCell,
    Setting,
)
from model.kernels.library import find as find_kernels
from training.cost import interleaved_seconds, settle
from training.environment import environment

SPREAD = 10  # of the random scores: wide enough that sums of them are hardly ever equal
MOST_SEEDS = 20

Search = Callable[[Replay], Found]


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Args:
        settings: to search.
        most_in_dicts: catalogs of more items are not put into dictionaries, nor into RecTokens.
        search_s: for the comparison of one setting.
        builds: items of the catalogs to build an index of, 8 levels of 2048 codes each.
        build_s: for the comparison of one of them, unless one round takes longer.
        most_in_static: larger catalogs are indexed by ours alone.
    """

    settings: tuple[Setting, ...]
    most_in_dicts: int
    search_s: float
    builds: tuple[int, ...]
    build_s: float
    most_in_static: int = HEADLINE_SIDS


SETTINGS = (
    Setting(12_000, 256, 4, 1, 50),
    Setting(12_000, 256, 4, 8, 50),
    Setting(100_000, 2048, 8, 2, 70),
    Setting(HEADLINE_SIDS, 2048, 8, 2, 70),
)
FULL = Effort(SETTINGS, HEADLINE_SIDS, 20, (100_000, HEADLINE_SIDS, 10_000_000), 30)
QUICK = Effort(SETTINGS, 12_000, 3, (100_000, HEADLINE_SIDS), 1)


def catalog(num_items: int, vocabulary: int, levels: int) -> Codes:
    """(num_items, levels) codes, uniformly drawn."""
    return np.random.default_rng(0).integers(0, vocabulary, (num_items, levels), dtype=np.int32)


def replay(setting: Setting, seed: int) -> Replay:
    """Random scores of every level's codes, another set for each row of the batch."""
    generator = torch.Generator().manual_seed(seed)
    shape = (setting.levels, setting.batch, setting.vocabulary)
    return Replay(list(SPREAD * torch.rand(shape, generator=generator)), setting.beam_width)


def agreed(able: Mapping[str, Search], setting: Setting) -> int:
    """The first seed whose scores let all contenders find the same.

    Peers may put equal sums of scores into any order; who is wrong is so with every seed.
    """
    for seed in range(MOST_SEEDS):
        model = replay(setting, seed)
        reference, *others = [search_with(model) for search_with in able.values()]
        if all(
            torch.equal(each.sids, reference.sids)
            and torch.allclose(each.scores, reference.scores, rtol=1e-5)
            for each in others
        ):
            return seed
    raise AssertionError(f"{', '.join(able)} do not find the same in {setting}")


def contenders(setting: Setting, effort: Effort) -> tuple[dict[str, Search], dict[str, str]]:
    """Who can search this catalog, and why others cannot."""
    codes = catalog(setting.num_items, setting.vocabulary, setting.levels)
    ours = trie_of(codes, (setting.vocabulary,) * setting.levels)
    static = StaticIndex.from_codes(codes, setting.vocabulary)
    found: dict[str, Search] = {
        OURS: partial(find, ours),
        BY_LEVEL: partial(find, ours, step_cost=LEVEL_BY_LEVEL),
        STATIC: lambda model: static.search(model.scores, model.beam_width),
    }
    if (kernels := find_kernels()) is not None:
        found[COMPILED] = partial(find, ours, step_cost=LEVEL_BY_LEVEL, kernels=kernels)
    if setting.num_items > effort.most_in_dicts:
        return found, {}
    dicts = DictTrie(codes)
    found["dict"] = lambda model: dicts.search(model.scores, model.beam_width)
    try:
        rectokens = RecTokens(codes, setting.vocabulary)
    except ImportError as error:
        return found, {"RecTokens": str(error)}
    found["RecTokens"] = lambda model: rectokens.search(model.scores, model.beam_width)
    return found, {}


@torch.inference_mode()
def search(setting: Setting, effort: Effort) -> SearchCell:
    """Time everybody's search."""
    able, skipped = contenders(setting, effort)
    seed = agreed(able, setting)
    model = replay(setting, seed)
    works: dict[str, Callable[[], object]] = {
        name: partial(search_with, model) for name, search_with in able.items()
    }
    works[NO_CATALOG] = lambda: unconstrained(model.scores, model.beam_width)
    works[SOFTMAX] = lambda: [scores.log_softmax(-1) for scores in model.scores]
    works[MEMORY] = model.memory_lookups()
    seconds = interleaved_seconds(works, effort.search_s, min_rounds=1)
    return SearchCell(setting, {name: 1e3 * s for name, s in seconds.items()}, skipped, seed)


def build(num_items: int, effort: Effort, vocabulary: int = 2048, levels: int = 8) -> BuildCell:
    """Time how an index comes to be."""
    codes = catalog(num_items, vocabulary, levels)
    sizes = (vocabulary,) * levels
    works: dict[str, Callable[[], object]] = {OURS: lambda: trie_of(codes, sizes)}
    mib = {OURS: num_bytes(trie_of(codes, sizes)) / 2**20}
    if num_items <= effort.most_in_static:
        works[STATIC] = lambda: StaticIndex.from_codes(codes, vocabulary)
        mib[STATIC] = StaticIndex.from_codes(codes, vocabulary).num_bytes / 2**20
    seconds = interleaved_seconds(works, effort.build_s, min_rounds=1)
    return BuildCell(num_items, vocabulary, levels, seconds, mib)


def measure(effort: Effort, *, quick: bool) -> Result:
    """Everything."""
    found_in = environment("benchmarks.trie", sys.argv[1:])
    searches = [search(setting, effort) for setting in effort.settings]
    return Result(searches, [build(size, effort) for size in effort.builds], quick, found_in)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer contenders and rounds, in less than 60 s.")
    ] = False,
    record_in: Annotated[
        Path | None, typer.Option("--record", help="Write .json and .md into this folder.")
    ] = None,
) -> None:
    """Measure what it costs to stay inside the catalog, on one thread."""
    settle()
    result = measure(QUICK if quick else FULL, quick=quick)
    if record_in is not None:
        write_record(result, record_in)
    if as_json:
        print(json.dumps(result.to_json(), indent=1))
    else:
        show(result)


if __name__ == "__main__":
    app()
