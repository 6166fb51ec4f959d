"""Graphs of torch.compile: the same answers, for the shapes that have graphs and all others."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import FunctionType

import numpy as np
import polars as pl
import pytest
import torch
from torch._dynamo.exc import FailOnRecompileLimitHit

from model.backbone import Backbone, Prompt, Step
from model.buckets import Graphs
from model.config import AnyModelConfig
from model.engine import Answer, Engine, Query
from model.errors import ModelError
from model.graphs import ModelWithGraphs, Pass, with_graphs
from model.placement import Vectors
from model.prompt_cache import PromptCache
from tests.factories import (
    COMPILES,
    TINY,
    TINY_QWEN,
    history_batch,
    random_bundle,
    random_engine,
    random_model,
    tiny_config,
    tiny_qwen,
)

GRAPHS = Graphs((1, 4), beam_width=20)
LENGTHS = [1, 2, 3, 5, 8, 12, 30, 4, 4, 11]
BOTH = pytest.mark.parametrize("config", [TINY, TINY_QWEN], ids=["t5", "qwen"])
ONE_ITEM: tuple[AnyModelConfig, ...] = (
    tiny_config(max_history_items=1),
    tiny_qwen(max_history_items=1),
)


@dataclass
class FakeCompiler:
    """Runs passes as they are; counts those it was given, and how often one was run since."""

    made: int = 0
    runs: int = 0
    refuses: bool = field(default=False)

    def __call__(self, run: FunctionType) -> Pass:
        """The pass, counted."""
        self.made += 1

        def graph(*inputs: object) -> object:
            self.runs += 1
            if self.refuses:
                raise FailOnRecompileLimitHit
            return run(*inputs)

        return graph


class CountedStep:
    """Counts the steps of a model that is not compiled."""

    def __init__(self, model: Backbone) -> None:
        self.steps = 0
        step = model.step

        def counted(prompt: Prompt, each: Step) -> torch.Tensor:
            self.steps += 1
            return step(prompt, each)

        model.step = counted  # type: ignore[assignment, method-assign]


def engine_with(
    config: AnyModelConfig, compiler: Callable[[FunctionType], Pass], cache_bytes: int = 0
) -> Engine:
    """What `Engine.from_bundle` makes, by another compiler."""
    bundle = random_bundle(config)
    model = with_graphs(bundle.build_model(), "float32", GRAPHS, compiler)
    engine = Engine(
        bundle.manifest,
        model,
        bundle.sids,
        bundle.catalog,
        placement=bundle.placement,
        cache_bytes=cache_bytes,
    )
    engine.make_graphs(GRAPHS)
    return engine


def same(found: list[Answer], expected: list[Answer]) -> bool:
    """Whether the items are equal, and the scores but for rounding."""
    items, scores = zip(
        *(
            [[each.item_index for each in answer.items], [each.score for each in answer.items]]
            for answer in (*found, *expected)
        ),
        strict=True,
    )
    half = len(found)
    return bool(
        items[:half] == items[half:]
        and np.allclose(np.concatenate(scores[:half]), np.concatenate(scores[half:]), atol=1e-4)
    )


@BOTH
@pytest.mark.parametrize("cache_bytes", [0, 10**7], ids=["no cache", "cache"])
def test_answers_are_those_without_graphs(config: AnyModelConfig, cache_bytes: int) -> None:
    """Any lengths and batch sizes, alone and again; the graphs are what computed some of them."""
    compiler = FakeCompiler()
    engine, plain = engine_with(config, compiler, cache_bytes), random_engine(config)
    queries = [Query(history, limit=5) for history in history_batch(LENGTHS)]
    made, runs = compiler.made, compiler.runs

    for batch in (queries, queries[:1], queries[5:9], queries[2:7], queries):
        assert same(engine.recommend(batch), plain.recommend(batch))

    assert made == 3 * 2 * 3  # lengths, batch sizes; a reading and two steps
    assert compiler.made == made
    assert compiler.runs - runs >= 20


@BOTH
def test_other_searches_run_without_graphs(config: AnyModelConfig) -> None:
    """Wider beams, other ratios, exact answers that need wider beams, batches of other sizes."""
    compiler = FakeCompiler()
    engine, plain = engine_with(config, compiler), random_engine(config)
    histories = history_batch([12] * 5)
    made, runs = compiler.made, compiler.runs

    wide = [Query(histories[0], beam_width=30)]
    assert same(engine.recommend(wide), plain.recommend(wide))
    assert (compiler.made, compiler.runs) == (made, runs + 1)  # reading needs no beams

    for queries in (
        [Query(histories[0], retention_ratio=1.0)] * 4,
        [Query(history) for history in histories],
    ):
        assert same(engine.recommend(queries), plain.recommend(queries))
    assert (compiler.made, compiler.runs) == (made, runs + 1)

    exact = [Query(histories[0], limit=3, decode="exact")]
    assert same(engine.recommend(exact), plain.recommend(exact))
    assert compiler.made == made


@BOTH
def test_batches_are_padded_to_a_size_with_graphs(config: AnyModelConfig) -> None:
    """Three rows are computed as four, and answered as three."""
    compiler = FakeCompiler()
    engine, plain = engine_with(config, compiler), random_engine(config)
    queries = [Query(history, explain=True) for history in history_batch([12, 11, 10])]
    runs = compiler.runs

    found = engine.recommend(queries)

    assert compiler.runs - runs == 3
    assert same(found, plain.recommend(queries))
    assert [answer.tokens_in for answer in found] == [36, 33, 30]


@BOTH
def test_rows_that_the_cache_lacks_are_read_by_a_graph(config: AnyModelConfig) -> None:
    """Three of four are read, as four; then all four are decoded together."""
    compiler = FakeCompiler()
    engine, plain = engine_with(config, compiler, 10**7), random_engine(config)
    queries = [Query(history) for history in history_batch([12, 11, 10, 9])]
    engine.recommend(queries[:1])
    runs = compiler.runs

    found = engine.recommend(queries)

    assert compiler.runs - runs == 3
    assert same(found, plain.recommend(queries))
    assert (engine.prompts.stats().hits, engine.prompts.stats().misses) == (1, 4)


@BOTH
def test_what_a_graph_refuses_is_computed_without(config: AnyModelConfig) -> None:
    """A graph that finds something else than it was made for must not cost an answer."""
    compiler = FakeCompiler()
    engine, plain = engine_with(config, compiler), random_engine(config)
    compiler.refuses = True
    queries = [Query(history) for history in history_batch([12, 11, 10])]
    runs = compiler.runs

    assert same(engine.recommend(queries), plain.recommend(queries))
    assert compiler.runs > runs


@BOTH
def test_a_changed_catalog_is_searched_correctly(config: AnyModelConfig) -> None:
    """Shapes may change with the trie; then there is no graph, and the answer is right."""
    engine, plain = engine_with(config, FakeCompiler()), random_engine(config)
    queries = [Query(history) for history in history_batch([12, 3, 10, 9])]
    items = pl.DataFrame({"item_id": ["new-1", "new-2"]})
    vectors: Vectors = np.ones((2, 4), dtype=np.float32)

    for each in (engine, plain):
        each.put_items(items, vectors)
        each.remove_items(["i3", "i4"])

    assert same(engine.recommend(queries), plain.recommend(queries))


@COMPILES
@pytest.mark.parametrize("config", ONE_ITEM, ids=["t5", "qwen"])
def test_torch_compile_answers_the_same(config: AnyModelConfig) -> None:
    """The real compiler: alone, padded, by another thread, and with two threads of torch's own."""
    engine = Engine.from_bundle(random_bundle(config), graphs=Graphs((2,), 20))
    plain = random_engine(config)
    queries = [Query(history, limit=5) for history in history_batch([1] * 4)]
    model = engine.model
    assert isinstance(model, ModelWithGraphs)
    without_graphs = CountedStep(model.others)

    def with_two_threads() -> list[Answer]:
        torch.set_num_threads(2)
        try:
            return engine.recommend(queries[:1])
        finally:
            torch.set_num_threads(1)

    with ThreadPoolExecutor(1) as pool:
        found = engine.recommend(queries[:1]), engine.recommend(queries[:2])
        elsewhere = pool.submit(engine.recommend, queries[1:2]).result()
        assert without_graphs.steps == 0
        with_two = pool.submit(with_two_threads).result()

    assert model.num_graphs == 3
    assert without_graphs.steps == 2  # a graph is made for one number of threads
    assert same(found[0], plain.recommend(queries[:1]))
    assert same(found[1], plain.recommend(queries[:2]))
    assert same(elsewhere, plain.recommend(queries[1:2]))
    assert same(with_two, plain.recommend(queries[:1]))


def test_without_a_compiler_the_reason_is_said() -> None:
    """When the engine is loaded, in one line; not at the first request."""

    def broken(_: FunctionType) -> Pass:
        def graph(*_: object) -> object:
            raise RuntimeError("by inductor:\nNo working C++ compiler found\n\nmore")

        return graph

    with pytest.raises(ModelError, match=r"failed: by inductor: No .* found$"):
        engine_with(TINY, broken)


def test_int8_has_no_graphs() -> None:
    """torch.compile cannot do its products in all models."""
    with pytest.raises(ModelError, match="int8"):
        with_graphs(random_model(TINY), "int8", GRAPHS)


def test_graphs_are_made_of_models_made_for_them() -> None:
    """Weights packed for serving are nothing that torch.compile knows."""
    with pytest.raises(ModelError, match="with_graphs"):
        random_engine().make_graphs(GRAPHS)


def test_making_graphs_leaves_nothing_in_the_cache() -> None:
    """Its histories are made up."""
    engine = engine_with(TINY, FakeCompiler(), cache_bytes=10**7)

    assert engine.prompts.stats().rows == 0
    assert engine.prompts.max_bytes == PromptCache(10**7, "v1").max_bytes
