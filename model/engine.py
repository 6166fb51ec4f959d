"""Engine.recommend: the one door to the model, for the service and for evaluation alike."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import polars as pl
import torch

from model.answers import Found, kept_history, kept_items, open_leaves
from model.backbone import Backbone
from model.beam_search import beam_search
from model.buckets import Buckets, Graphs
from model.bundle import Bundle, Manifest, load_bundle
from model.catalog import Catalog
from model.changes import put_items, remove_items
from model.errors import ModelError
from model.explore import among_untried, with_untried
from model.graphs import make_graphs, with_graphs
from model.inventory import Inventory
from model.placement import Placement, Vectors
from model.popular import popular
from model.prompt_cache import PromptCache
from model.queries import Answer, Query, RankedItem, Shape
from model.rehearsal import Timing, rehearse, scenes
from model.row_rules import rules_of
from model.semantic_id import SidTable
from model.speed import SpeedMode, accelerate, kernels_of
from model.trie import SidTrie

__all__ = ["Answer", "Engine", "Query", "RankedItem", "Shape"]

DEFAULT_BEAM_WIDTH = 20
WIDENING = 4
"""Exact decoding searches again with a beam this much wider until the answer is proved."""
RATIO_TOLERANCE = 0.005
"""A request may round a retention ratio."""
MAX_EXACT_BEAMS = 8192
"""Beams of all rows together in such a search, one row at least."""


class Engine:
    """A bundle ready to answer, on several threads if need be; changes to it need to be alone."""

    def __init__(
        self,
        manifest: Manifest,
        model: Backbone,
        sids: SidTable,
        catalog: Catalog,
        *,
        placement: Placement | None = None,
        trie: SidTrie | None = None,
        retention_ratios: Collection[float] = (),
        cache_bytes: int = 0,
    ) -> None:
        """Answer with a model as it is, e.g. in the middle of its training.

        Args:
            manifest: names the model and its validated retention ratios.
            model: in eval mode whenever `recommend` is called.
            sids: of every item.
            catalog: same items, same order.
            placement: what new items need to be added.
            trie: of `sids`; None = build it.
            retention_ratios: allowed beside the manifest's, to validate them.
            cache_bytes: for histories as the model read them; 0 unless its weights are final.
        """
        self.manifest = manifest
        self.model = model
        self.device = model.embedding.weight.device
        self.dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
        validated = {profile.retention_ratio for profile in manifest.sap_profile}
        validated |= {*retention_ratios, manifest.model.default_retention_ratio}
        self.retention_ratios = tuple(sorted(validated))
        self.inventory = Inventory(sids, catalog, self.device, trie)
        self._placement = placement
        self.buckets = Buckets.many(manifest.model.max_history_items)
        self.prompts = PromptCache(cache_bytes, manifest.version)

    @classmethod
    def from_bundle(
        cls,
        bundle: Bundle,
        *,
        device: str = "cpu",
        dtype: SpeedMode = "float32",
        cache_bytes: int = 0,
        graphs: Graphs | None = None,
    ) -> Self:
        """Build the bundle's model on a device; scores are float32 whatever the dtype.

        Raises:
            ModelError: int8 elsewhere than on a CPU, or with graphs; torch.compile failed.
        """
        plain = bundle.build_model().to(device)
        model = accelerate(plain, dtype) if graphs is None else with_graphs(plain, dtype, graphs)
        engine = cls(
            bundle.manifest,
            model,
            bundle.sids,
            bundle.catalog,
            placement=bundle.placement,
            trie=bundle.trie,
            cache_bytes=cache_bytes,
        )
        if graphs is not None:
            engine.make_graphs(graphs)
        return engine

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: SpeedMode = "float32",
        num_threads: int | None = None,
        cache_bytes: int = 0,
        graphs: Graphs | None = None,
    ) -> Self:
        """Read a bundle folder and build the engine, or raise BundleError.

        Args:
            folder: one version of a bundle.
            device: where torch computes, e.g. "cpu" or "cuda:0".
            dtype: of weights and activations, see `accelerate`; scores are always float32.
            num_threads: torch's own threads on the CPU, process-wide; None = torch's default.
            cache_bytes: for histories as the model read them (see PromptCache); 0 = none.
            graphs: what torch.compile makes graphs for, which takes minutes; None = nothing.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        bundle = load_bundle(folder)
        return cls.from_bundle(
            bundle, device=device, dtype=dtype, cache_bytes=cache_bytes, graphs=graphs
        )

    def make_graphs(self, graphs: Graphs) -> None:
        """Compile every pass of the searches that `graphs` names, before any other search.

        Raises:
            ModelError: torch.compile failed; or the model does not come from `with_graphs`.
        """
        config = self.manifest.model
        self.buckets = Buckets.few(config.max_history_items, graphs, config.default_retention_ratio)
        prompts, self.prompts = self.prompts, PromptCache(0, self.manifest.version)
        make_graphs(self.model, self.buckets, self._recommend)
        self.prompts = prompts

    @torch.inference_mode()
    def recommend(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer every query; no answer depends on the others.

        Raises:
            ModelError: an empty history, a retention ratio outside `retention_ratios`, or a
                filter expression that is wrong (FilterError).
        """
        exploring = [place for place, query in enumerate(queries) if query.explore]
        more = [among_untried(queries[place]) for place in exploring]
        answers = self._recommend([*queries, *more])
        for place, untried in zip(exploring, answers[len(queries) :], strict=True):
            answers[place] = with_untried(
                queries[place], answers[place], untried, self.sids.popularity
            )
        return answers[: len(queries)]

    def _recommend(self, queries: Sequence[Query]) -> list[Answer]:
        groups: dict[Shape, list[int]] = defaultdict(list)
        for place, query in enumerate(queries):
            groups[self.shape(query)].append(place)
        answers: dict[int, Answer] = {}
        for shape, places in groups.items():
            batch = [queries[place] for place in places]
            answers.update(zip(places, self._answer(shape, batch), strict=True))
        return [answers[place] for place in range(len(queries))]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Items that histories are padded to, ascending."""
        return self.buckets.lengths

    @property
    def kernels(self) -> str:
        """What computes the blocks: a kind of compiled code, such as avx512, or torch."""
        return kernels_of(self.model)

    @property
    def sids(self) -> SidTable:
        """The semantic IDs of all items, also of those that came since."""
        return self.inventory.sids

    @property
    def catalog(self) -> Catalog:
        """All items, also those that came since and those that were removed."""
        return self.inventory.catalog

    def popular(self, query: Query) -> list[int]:
        """The most popular items that a query's rules allow, for users without a known history.

        Args:
            query: its history may be empty; boosts and diversity do not count.
        """
        return popular(self.inventory, query)

    @torch.inference_mode()
    def put_items(self, items: pl.DataFrame, vectors: Vectors | None = None) -> int:
        """Add items or change them, for the next request on; see `model.changes.put_items`."""
        return put_items(self.inventory, self._placement, items, vectors)

    @torch.inference_mode()
    def remove_items(self, item_ids: Sequence[str]) -> list[str]:
        """Take items out, for the next request on; returns the ids that are unknown."""
        return remove_items(self.inventory, item_ids)

    def check_filter(self, where: str | None) -> None:
        """Raise FilterError, with what is wrong, unless the expression fits the catalog."""
        if where is not None:
            self.inventory.parse(where)

    def validated_ratio(self, ratio: float | None) -> float | None:
        """The validated retention ratio that is meant, e.g. 1/3 by 0.33; None if there is none.

        Args:
            ratio: as asked for; None means the one the bundle was trained with.
        """
        if ratio is None:
            return self.manifest.model.default_retention_ratio
        nearest = min(self.retention_ratios, key=lambda known: abs(known - ratio))
        return nearest if abs(nearest - ratio) < RATIO_TOLERANCE else None

    def rehearse(self, max_rows: int, max_tokens: int) -> list[Timing]:
        """Run every shape, so that no user waits for a first time; how long each took.

        Args:
            max_rows: of the largest batch that will come.
            max_tokens: of its histories, padding counted.
        """
        self.catalog.index_of("")
        items_at_once = max_tokens // self.manifest.model.tokens_per_item
        standard = self.shape(Query([0] * self.lengths[-1]))
        script = scenes(standard, self.lengths, self.retention_ratios, max_rows, items_at_once)
        timings = rehearse(self.recommend, self.prompts.clear, script, len(self.catalog))
        self.prompts.clear()
        return timings

    def shape(self, query: Query) -> Shape:
        """How the query will be computed; ModelError if it cannot be."""
        if not query.history:
            raise ModelError("a query needs at least one item of history")
        ratio = self.validated_ratio(query.retention_ratio)
        if ratio is None:
            raise ModelError(
                f"retention ratio {query.retention_ratio} was not validated for this bundle"
            )
        beam_width = max(query.beam_width or DEFAULT_BEAM_WIDTH, query.limit)
        num_items = self.buckets.length(len(query.history))
        return Shape(num_items, beam_width, ratio, query.decode == "exact")

    def _answer(self, shape: Shape, queries: Sequence[Query]) -> list[Answer]:
        found = self._search(shape, queries)
        answers = [answer for answer, _ in found]
        unsure = [row for row, (_, proved) in enumerate(found) if shape.exact and not proved]
        wider = replace(shape, beam_width=shape.beam_width * WIDENING)
        chunk = max(1, MAX_EXACT_BEAMS // wider.beam_width)
        for start in range(0, len(unsure), chunk):
            rows = unsure[start : start + chunk]
            again = self._answer(wider, [queries[row] for row in rows])
            for row, answer in zip(rows, again, strict=True):
                answers[row] = answer
        return answers

    def _search(self, shape: Shape, queries: Sequence[Query]) -> list[tuple[Answer, bool]]:
        """One beam search for queries of one shape; each answer, and whether it is proved exact."""
        config = self.manifest.model
        asked = list(queries)
        asked += asked[-1:] * (self.buckets.rows(len(asked), shape) - len(asked))
        tokens, mask = self.sids.pack(
            [query.history for query in asked],
            separator=config.separator,
            num_items=shape.num_items,
        )
        prompt = self.prompts.prompt(self.model, tokens, mask, shape.retention_ratio)
        rules, rows = rules_of(self.inventory, asked)
        beams = beam_search(self.model, prompt, self.inventory.trie, shape.beam_width, rules)
        found = Found.from_device(beams)
        kept = kept_items(prompt.cut, mask, config.tokens_per_item)
        answers = []
        for row, query in enumerate(queries):
            items = open_leaves(self.sids, found, row, query, rows[row])
            answer = Answer(
                items=items,
                tokens_in=int(mask[row].sum()),
                tokens_kept=int(kept[row].sum()),
                kept_history=kept_history(kept[row], len(query.history)) if query.explain else None,
            )
            answers.append((answer, found.is_proved(row, items, query.limit)))
        return answers
