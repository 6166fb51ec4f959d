"""A model whose passes of a few fixed shapes are compiled by torch.compile; all others run as ever.

A pass is compiled while shapes are being made, and never later: no request waits for a compiler.
Shape words: batch, seq (padded history tokens), kept, rows, depth, places.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit

from model.backbone import Backbone, Prompt, Step, with_first_step
from model.buckets import Buckets, Graphs, padded
from model.errors import ModelError
from model.queries import Query
from model.speed import SpeedMode, accelerate

Pass = Callable[..., Any]
Compiler = Callable[[FunctionType], Pass]
Key = tuple[object, ...]


def compiled_once(run: FunctionType) -> Pass:
    """The pass compiled for what it is first called with; it refuses whatever differs from that.

    It is a copy of the function: torch keeps what it compiled of one, and counts that, for ever.
    Whether the weights are still the same is not looked at: those of a served model are.
    """
    code = run.__code__.replace()
    own = FunctionType(code, run.__globals__, run.__name__, run.__defaults__, run.__closure__)
    options = {"guard_filter_fn": torch.compiler.skip_guard_on_all_nn_modules_unsafe}
    graph: Pass = torch.compile(  # type: ignore[call-overload]  # its types lack recompile_limit
        own, dynamic=False, fullgraph=True, recompile_limit=1, options=options
    )
    return graph


def with_graphs(
    model: Backbone,
    mode: SpeedMode,
    graphs: Graphs,
    compiler: Compiler = compiled_once,
) -> "ModelWithGraphs":
    """A model in eval mode, made fast; the one that was given is used up. It has no graphs yet.

    On a CPU there are two copies of its weights: torch.compile knows no packed ones.

    Args:
        model: in float32, where it is going to compute.
        mode: see `accelerate`.
        graphs: what is going to have graphs.
        compiler: turns a pass into one for the shapes of its first call.

    Raises:
        ModelError: int8, of which torch.compile cannot make graphs.
    """
    if mode == "int8":
        raise ModelError("torch.compile has no graphs of int8; choose float32 or bfloat16")
    on_cpu = model.embedding.weight.device.type == "cpu"
    others = accelerate(copy.deepcopy(model), mode) if on_cpu else None
    plain = accelerate(model, mode, lambda _: False, lambda: None)
    others = plain if others is None else others
    return ModelWithGraphs(plain, others, graphs.batch_sizes, compiler)


class ModelWithGraphs(Backbone):
    """See `with_graphs`.

    Args:
        plain: of whose passes graphs are made.
        others: does what there is no graph for.
        batch_sizes: ascending.
        compiler: see `with_graphs`.
    """

    step_cost = -1  # how far to read ahead would be one more shape

    def __init__(
        self, plain: Backbone, others: Backbone, batch_sizes: tuple[int, ...], compiler: Compiler
    ) -> None:
        nn.Module.__init__(self)  # all parts of a Backbone are those of the others
        self.config = others.config
        self.embedding = others.embedding
        self.outputs = others.outputs
        self.token_ranges = others.token_ranges
        self.first_tokens = others.first_tokens
        self.kernels = others.kernels
        self.plain, self.others = plain, others
        self.batch_sizes = batch_sizes
        self._compiler = compiler
        self._graphs: dict[Key, Pass] = {}
        self._is_making = False

    @property
    def num_graphs(self) -> int:
        """How many passes are compiled."""
        return len(self._graphs)

    @property
    def tied_scale(self) -> float:
        """See Backbone."""
        return self.others.tied_scale

    @contextmanager
    def making_graphs(self) -> Iterator[None]:
        """Make a graph of every pass that is run meanwhile, by this thread alone.

        Raises:
            ModelError: torch.compile failed, for want of a C++ compiler for one.
        """
        self._is_making = True
        try:
            yield
        except RuntimeError as error:
            reason = " ".join(str(error).split("\n")[:2]).strip()
            raise ModelError(f"torch.compile failed: {reason}") from error
        finally:
            self._is_making = False

    def prompt(self, tokens: Tensor, mask: Tensor, ratio: float | None = None) -> Prompt:
        """See Backbone; where there is a graph, the decoder has begun as well."""
        ratio = self.config.default_retention_ratio if ratio is None else ratio
        batch, seq = tokens.shape
        rows = padded(batch, self.batch_sizes)
        graph = self._graph(("read", rows, seq, ratio), lambda: _reading(self.plain, ratio))
        if graph is not None:
            spare = [each[-1:].expand(rows - batch, -1) for each in (tokens, mask)]
            with suppress(FailOnRecompileLimitHit):  # it was compiled for something else after all
                prompt: Prompt = graph(torch.cat((tokens, spare[0])), torch.cat((mask, spare[1])))
                return prompt.rows(slice(batch)) if rows > batch else prompt
        return self.others.prompt(tokens, mask, ratio)

    def decode(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """See Backbone."""
        return self.others.decode(prompt, codes)

    def start(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """See Backbone."""
        return self.others.start(prompt)

    def step(self, prompt: Prompt, step: Step) -> Tensor:
        """See Backbone."""
        lengths = tuple(states.shape[3] for states in prompt.memory)
        shapes = (tuple(step.counts), tuple(step.seen.shape), tuple(step.store.shape))
        key = ("step", step.level, step.begin, lengths, *shapes)
        graph = self._graph(key, lambda: _stepping(self.plain))
        if graph is not None:
            with suppress(FailOnRecompileLimitHit):
                states: Tensor = graph(_plain_prompt(prompt), _plain_step(step))
                return states
        return self.others.step(prompt, step)

    def _graph(self, key: Key, run: Callable[[], FunctionType]) -> Pass | None:
        """The graph of a pass, made now if graphs are being made."""
        if self._is_making and key not in self._graphs:
            self._graphs[key] = self._compiler(run())
        return self._graphs.get(key)


def _reading(model: Backbone, ratio: float) -> FunctionType:
    def read(tokens: Tensor, mask: Tensor) -> Prompt:
        prompt = with_first_step(model, model.prompt(tokens, mask, ratio))
        return replace(prompt, memory=tuple(states.contiguous() for states in prompt.memory))

    return cast("FunctionType", read)


def _stepping(model: Backbone) -> FunctionType:
    def read_on(prompt: Prompt, step: Step) -> Tensor:
        return model.step(prompt, step)

    return cast("FunctionType", read_on)


def make_graphs(
    model: Backbone, buckets: Buckets, search: Callable[[Sequence[Query]], object]
) -> None:
    """Compile every pass of a search, for each shape and batch size.

    Args:
        model: from `with_graphs`.
        buckets: what the search pads to.
        search: runs the model for these queries.

    Raises:
        ModelError: torch.compile failed; or the model is another.
    """
    if not isinstance(model, ModelWithGraphs):
        raise ModelError("graphs are made of models that are made for them: `with_graphs`")
    with model.making_graphs(), torch.inference_mode():
        for shape in buckets.shapes():
            history = [0] * shape.num_items
            query = Query(
                history, beam_width=shape.beam_width, retention_ratio=shape.retention_ratio
            )
            for rows in buckets.batch_sizes:
                search([query] * rows)


def _plain_prompt(prompt: Prompt) -> Prompt:
    """What the decoder reads of it, laid out as it always is where a graph was made."""
    last = prompt.last
    return Prompt(
        tuple(_plain(states) for states in prompt.memory),
        tuple(_plain(bias) for bias in prompt.biases),
        cut=None,
        last=None if last is None else (_plain(last[0]), _plain(last[1])),
    )


def _plain_step(step: Step) -> Step:
    codes = tuple(_plain(codes) for codes in step.codes)
    return replace(step, codes=codes, seen=_plain(step.seen))


def _plain(tensor: Tensor) -> Tensor:
    """The same numbers in a tensor object of its own, contiguous in dimensions of one, too."""
    strides = [1]
    for size in tensor.shape[:0:-1]:
        strides.insert(0, strides[0] * size)
    return tensor.contiguous().as_strided(tensor.shape, strides)
