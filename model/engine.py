"""Engine.recommend: the one door to the model, for the service and for evaluation alike."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.backbone import Backbone
from model.beam_search import Beams, beam_search
from model.bundle import Bundle, Manifest, load_bundle
from model.catalog import Catalog
from model.errors import ModelError
from model.pruning import Cut
from model.semantic_id import SidTable
from model.trie import Exclusions, SidTrie, TrieAncestry

DEFAULT_BEAM_WIDTH = 20

Dtype = Literal["float32", "bfloat16"]
Group = tuple[float, int, int]
"""Queries that share a batch: retention ratio, beam width, items in the padded row."""


@dataclass(frozen=True)
class Query:
    """One question to the engine.

    Args:
        history: item indices, oldest first; must not be empty.
        limit: most items to answer with.
        beam_width: prefixes kept per level; None = the default, never less than limit.
        retention_ratio: one of the engine's; None = the one the bundle was trained with.
        exclude_seen: never answer with an item of `history`.
        explain: fill in level_log_probs and kept_history.
    """

    history: Sequence[int]
    limit: int = 10
    beam_width: int | None = None
    retention_ratio: float | None = None
    exclude_seen: bool = True
    explain: bool = False


@dataclass(frozen=True)
class RankedItem:
    """One item of an answer; the items of one bucket share its score."""

    item_index: int
    score: float
    sid: tuple[int, ...]
    level_log_probs: tuple[float, ...] | None


@dataclass(frozen=True)
class Answer:
    """Items, best first; fewer than asked when fewer legal ones exist.

    Args:
        tokens_in: history tokens before SAP.
        tokens_kept: history tokens after SAP.
        kept_history: with explain, (position in query.history, its tokens that SAP kept).
    """

    items: list[RankedItem]
    tokens_in: int
    tokens_kept: int
    kept_history: list[tuple[int, int]] | None


class Engine:
    """A bundle ready to answer. Use it from one thread at a time."""

    def __init__(
        self,
        manifest: Manifest,
        model: Backbone,
        sids: SidTable,
        catalog: Catalog,
        *,
        retention_ratios: Collection[float] = (),
    ) -> None:
        """Answer with a model as it is, e.g. in the middle of its training.

        Args:
            manifest: names the model and its validated retention ratios.
            model: in eval mode whenever `recommend` is called.
            sids: of every item.
            catalog: same items, same order.
            retention_ratios: allowed beside the manifest's, to validate them.
        """
        self.manifest = manifest
        self.model = model
        self.sids = sids
        self.catalog = catalog
        self.device = model.embedding.weight.device
        self.dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
        self.retention_ratios = _retention_ratios(manifest, retention_ratios)
        trie = SidTrie.from_sids(sids.sids)
        self._ancestry = TrieAncestry(trie)
        self._trie = trie.to(self.device)
        self._buckets = _length_buckets(manifest.model.max_history_items)

    @classmethod
    def from_bundle(cls, bundle: Bundle, *, device: str = "cpu", dtype: Dtype = "float32") -> Self:
        """Build the bundle's model on a device; scores are float32 whatever the dtype."""
        model = bundle.build_model().to(device, getattr(torch, dtype))
        return cls(bundle.manifest, model, bundle.sids, bundle.catalog)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: Dtype = "float32",
        num_threads: int | None = None,
    ) -> Self:
        """Read a bundle folder and build the engine, or raise BundleError.

        Args:
            folder: one version of a bundle.
            device: where torch computes, e.g. "cpu" or "cuda:0".
            dtype: of weights and activations; scores are always float32.
            num_threads: torch's own threads on the CPU, process-wide; None = torch's default.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        return cls.from_bundle(load_bundle(folder), device=device, dtype=dtype)

    @torch.inference_mode()
    def recommend(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer every query; no answer depends on the others.

        Raises:
            ModelError: an empty history, or a retention ratio outside `retention_ratios`.
        """
        groups: dict[Group, list[int]] = defaultdict(list)
        for place, query in enumerate(queries):
            groups[self._group(query)].append(place)
        answers: dict[int, Answer] = {}
        for group, places in groups.items():
            batch = [queries[place] for place in places]
            answers.update(zip(places, self._answer(group, batch), strict=True))
        return [answers[place] for place in range(len(queries))]

    def popular(self, limit: int, exclude: Collection[int]) -> list[int]:
        """The most popular items outside `exclude`, for users without a known history."""
        found: list[int] = []
        for item in self.catalog.by_popularity:
            if len(found) == limit:
                break
            if item not in exclude:
                found.append(int(item))
        return found

    def warm_up(self) -> None:
        """Run every bucket of history lengths once, so that the first user does not wait."""
        for num_items in self._buckets:
            history = [item % len(self.catalog) for item in range(num_items)]
            for ratio in self.retention_ratios:
                self.recommend([Query(history, retention_ratio=ratio, exclude_seen=False)])

    def _group(self, query: Query) -> Group:
        if not query.history:
            raise ModelError("a query needs at least one item of history")
        ratio = query.retention_ratio
        if ratio is None:
            ratio = self.manifest.model.default_retention_ratio
        if ratio not in self.retention_ratios:
            raise ModelError(f"retention ratio {ratio} was not validated for this bundle")
        beam_width = max(query.beam_width or DEFAULT_BEAM_WIDTH, query.limit)
        length = min(len(query.history), self._buckets[-1])
        return ratio, beam_width, next(size for size in self._buckets if size >= length)

    def _answer(self, group: Group, queries: Sequence[Query]) -> Iterator[Answer]:
        ratio, beam_width, num_items = group
        config = self.manifest.model
        histories = [query.history for query in queries]
        tokens, mask = self.sids.pack(histories, separator=config.separator, num_items=num_items)
        prompt = self.model.prompt(self._tensor(tokens), self._tensor(mask), ratio)
        seen = [self._seen(query) for query in queries]
        beams = beam_search(self.model, prompt, self._trie, beam_width, self._exclusions(seen))
        found = _Found.from_device(beams)
        kept = _kept_items(prompt.cut, mask, config.tokens_per_item)
        for row, query in enumerate(queries):
            yield Answer(
                items=list(self._items(found, row, query, seen[row])),
                tokens_in=int(mask[row].sum()),
                tokens_kept=int(kept[row].sum()),
                kept_history=_explain(kept[row], len(query.history)) if query.explain else None,
            )

    def _tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _seen(self, query: Query) -> npt.NDArray[np.int64]:
        items = query.history if query.exclude_seen else ()
        return np.unique(np.asarray(items, dtype=np.int64))

    def _exclusions(self, seen: Sequence[npt.NDArray[np.int64]]) -> Exclusions:
        """A leaf is closed when every item of its bucket was seen."""
        rows = []
        sizes = np.diff(self.sids.leaf_offsets)
        for items in seen:
            leaves, counts = np.unique(self.sids.leaf_of_item[items], return_counts=True)
            rows.append(self._ancestry.dead_nodes(leaves[counts == sizes[leaves]]))
        return Exclusions.from_rows(rows, self.sids.num_levels, self.device)

    def _items(
        self, found: "_Found", row: int, query: Query, seen: npt.NDArray[np.int64]
    ) -> Iterator[RankedItem]:
        """Open the found leaves, best first: several items may share a semantic ID."""
        remaining = query.limit
        closed = frozenset(seen.tolist())
        for leaf, score, terms in zip(*found.row(row), strict=True):
            first, end = self.sids.leaf_offsets[leaf : leaf + 2]
            for item in self.sids.items_by_leaf[first:end].tolist():
                if remaining == 0 or score == -np.inf:
                    return
                if item in closed:
                    continue
                remaining -= 1
                sid = tuple(self.sids.sids[leaf].tolist())
                yield RankedItem(item, score, sid, tuple(terms) if query.explain else None)


@dataclass(frozen=True)
class _Found:
    """Beams as plain numbers, fetched from the device once."""

    leaves: list[list[int]]
    scores: list[list[float]]
    terms: list[list[list[float]]]

    @classmethod
    def from_device(cls, beams: Beams) -> Self:
        return cls(beams.leaves.tolist(), beams.scores.tolist(), beams.level_log_probs.tolist())

    def row(self, row: int) -> tuple[list[int], list[float], list[list[float]]]:
        return self.leaves[row], self.scores[row], self.terms[row]


def _retention_ratios(manifest: Manifest, more: Collection[float]) -> tuple[float, ...]:
    validated = {profile.retention_ratio for profile in manifest.sap_profile}
    return tuple(sorted({*validated, *more, manifest.model.default_retention_ratio}))


def _length_buckets(max_items: int) -> tuple[int, ...]:
    """Row lengths in items, so that few shapes occur: powers of two and the steps between."""
    sizes = {size for power in range(12) for size in (2**power, 3 * 2**power // 2)}
    return (*sorted(size for size in sizes if 0 < size < max_items), max_items)


def _kept_items(
    cut: Cut | None, mask: npt.NDArray[np.bool_], tokens_per_item: int
) -> npt.NDArray[np.int64]:
    """(batch, items in the padded row): how many tokens of each item the encoder kept."""
    kept = mask
    if cut is not None:
        kept = np.zeros_like(mask)
        rows, places = np.nonzero(cut.mask.cpu().numpy())
        kept[rows, cut.indices.cpu().numpy()[rows, places]] = True
    per_item: npt.NDArray[np.int64] = kept.reshape(len(mask), -1, tokens_per_item).sum(axis=2)
    return per_item


def _explain(kept: npt.NDArray[np.int64], history_length: int) -> list[tuple[int, int]]:
    """Positions count from the start of the whole history, of which only the end was read."""
    skipped = max(0, history_length - len(kept))
    return [(skipped + int(place), int(kept[place])) for place in np.flatnonzero(kept)]
