"""The compiler of graphs: one shape each, and any number of them."""

from types import FunctionType

import pytest
import torch
from torch._dynamo.exc import FailOnRecompileLimitHit

from model.graphs import compiled_once
from tests.factories import COMPILES


@COMPILES
def test_any_number_of_models_may_be_compiled() -> None:
    """Torch keeps a count per function, and refuses from some number on; each graph is its own."""

    def double(number: int) -> FunctionType:
        def run(values: torch.Tensor) -> torch.Tensor:
            return values * number

        assert isinstance(run, FunctionType)
        return run

    with torch._dynamo.config.patch(accumulated_recompile_limit=2):
        graphs = [compiled_once(double(number)) for number in range(4)]
        found = [graph(torch.ones(2)).tolist() for graph in graphs]

    assert found == [[number, number] for number in range(4)]


@COMPILES
def test_a_graph_takes_nothing_else() -> None:
    """Another shape is refused; it is not compiled, and not computed wrongly."""

    def run(values: torch.Tensor) -> torch.Tensor:
        return values + 1

    assert isinstance(run, FunctionType)
    graph = compiled_once(run)
    graph(torch.ones(2))

    with pytest.raises(FailOnRecompileLimitHit):
        graph(torch.ones(3))
