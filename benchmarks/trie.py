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
from torch import Tensor

from benchmarks.trie_ours import Index, Replay
from benchmarks.trie_peers import Codes, DictTrie, Found, StaticIndex, unconstrained
from benchmarks.trie_rectokens import RecTokens
from benchmarks.trie_report import show, write_record
from benchmarks.trie_result import (
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
QUICK = Effort(SETTINGS, 12_000, 4, (100_000, HEADLINE_SIDS), 4)


def catalog(num_items: int, vocabulary: int, levels: int) -> Codes:
    """(num_items, levels) codes, uniformly drawn."""
    return np.random.default_rng(0).integers(0, vocabulary, (num_items, levels), dtype=np.int32)


def draw(setting: Setting, seed: int) -> list[Tensor]:
    """Random scores per level, (batch, beams, vocabulary); level 0 has one beam."""
    generator = torch.Generator().manual_seed(seed)
    widths = [1] + [setting.beam_width] * (setting.levels - 1)
    shapes = [(setting.batch, width, setting.vocabulary) for width in widths]
    return [SPREAD * torch.rand(shape, generator=generator) for shape in shapes]


def agreed(able: Mapping[str, Search], setting: Setting) -> int:
    """The first seed whose scores let all contenders find the same.

    Equal sums of scores may come out in any order of theirs, and then later levels get other
    scores; a contender that is wrong is so with every seed.
    """
    for seed in range(MOST_SEEDS):
        model = Replay(draw(setting, seed))
        reference, *others = [find(model) for find in able.values()]
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
    width = setting.beam_width
    ours = Index.from_codes(codes, (setting.vocabulary,) * setting.levels)
    static = StaticIndex.from_codes(codes, setting.vocabulary)
    found: dict[str, Search] = {
        OURS: lambda model: ours.search(model, width),
        STATIC: lambda model: static.search(model.drawn, width),
    }
    if setting.num_items > effort.most_in_dicts:
        return found, {}
    dicts = DictTrie(codes)
    found["dict"] = lambda model: dicts.search(model.drawn, width)
    try:
        rectokens = RecTokens(codes, setting.vocabulary)
    except ImportError as error:
        return found, {"RecTokens": str(error)}
    found["RecTokens"] = lambda model: rectokens.search(model.drawn, width)
    return found, {}


@torch.inference_mode()
def search(setting: Setting, effort: Effort) -> SearchCell:
    """Time everybody's search."""
    able, skipped = contenders(setting, effort)
    seed = agreed(able, setting)
    model, width = Replay(draw(setting, seed)), setting.beam_width
    works: dict[str, Callable[[], object]] = {
        name: partial(find, model) for name, find in able.items()
    }
    works[NO_CATALOG] = lambda: unconstrained(model.drawn, width)
    works[SOFTMAX] = lambda: [scores.log_softmax(-1) for scores in model.drawn]
    works[MEMORY] = lambda: model.gather_memory(width)
    seconds = interleaved_seconds(works, effort.search_s, min_rounds=1)
    return SearchCell(setting, {name: 1e3 * s for name, s in seconds.items()}, skipped, seed)


def build(num_items: int, effort: Effort, vocabulary: int = 2048, levels: int = 8) -> BuildCell:
    """Time how an index comes to be."""
    codes = catalog(num_items, vocabulary, levels)
    sizes = (vocabulary,) * levels
    works: dict[str, Callable[[], Index | StaticIndex]] = {
        OURS: lambda: Index.from_codes(codes, sizes)
    }
    if num_items <= effort.most_in_static:
        works[STATIC] = lambda: StaticIndex.from_codes(codes, vocabulary)
    mib = {name: work().num_bytes / 2**20 for name, work in works.items()}
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
