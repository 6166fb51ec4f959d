"""How much of a search is matrix products, at the rate this machine does them alone.

Every product that a search dispatches is done again on its own: the same operation, shapes, layout
and type, on operands that are still in the cache. Their sum is what the search would take if all
else cost nothing; attention counts as a product, its softmax included.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from training.cost import interleaved

ATTENTION = ("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu")
WITH_BIAS = ("addmm", "baddbmm")
PACKED = "_linear_pointwise"
PRODUCTS = ("mm", "bmm", "matmul", "linear", PACKED, *WITH_BIAS, *ATTENTION)
LEAST_S = 5e-4  # a product is repeated for so long, or the clock would be what is measured

Operation = torch._ops.OpOverload  # noqa: SLF001 - its only name


class Spec(NamedTuple):
    """What a product depends on of an operand."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def fresh(self) -> Tensor:
        """Such an operand, of random numbers."""
        reach = [(size - 1) * step for size, step in zip(self.shape, self.stride, strict=True)]
        storage = torch.randn(1 + sum(reach)).to(self.dtype)
        return storage.as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class Product:
    """One product as dispatched, without its numbers.

    Args:
        operation: which.
        arguments: by place, tensors as Specs; packed weights as they are.
        named: by name.
        flops: two per multiply-add.
    """

    operation: Operation
    arguments: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...]
    flops: int

    @property
    def name(self) -> str:
        """Such as mm."""
        return str(self.operation.overloadpacket.__name__)

    def work(self) -> Callable[[], object]:
        """Do it once, on operands of its own."""
        arguments = tree_map_only(Spec, Spec.fresh, self.arguments, is_leaf=_is_spec)
        named = tree_map_only(Spec, Spec.fresh, dict(self.named), is_leaf=_is_spec)
        return lambda: self.operation(*arguments, **named)


class ProductWatcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the products that are dispatched while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[Product] = Counter()

    def __torch_dispatch__(
        self,
        func: Operation,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Do it, and count it."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            arguments, named = tree_map_only(Tensor, _spec, (args, kwargs or {}))
            arguments = tuple(tuple(a) if isinstance(a, list) else a for a in arguments)
            flops = _flops(name, args, result)
            self.seen[Product(func, arguments, tuple(named.items()), flops)] += 1
        return result


@dataclass(frozen=True)
class Roofline:
    """One search beside its products; least times.

    Args:
        search_ms: all of it.
        products_ms: its products, each at the rate it has alone.
        attention_ms: of these, attention.
        share: products_ms / search_ms.
        num_products: dispatched by one search.
        gflop: of the products.
        search_gflops: GFLOP per second of the search.
        product_gflops: GFLOP per second of the products alone.
    """

    search_ms: float
    products_ms: float
    attention_ms: float
    share: float
    num_products: int
    gflop: float
    search_gflops: float
    product_gflops: float


@torch.inference_mode()
def roofline(search: Callable[[], object], budget_s: float, min_rounds: int = 3) -> Roofline:
    """Time a search and its products in interleaved rounds."""
    with ProductWatcher() as watcher:
        search()
    works: dict[Product | None, Callable[[], object]] = {None: search}
    repeats: dict[Product, int] = {}
    for product in watcher.seen:
        once = product.work()
        alone = interleaved({0: once}, 0)[0].least_s
        repeats[product] = max(1, math.ceil(LEAST_S / max(alone, 1e-6)))
        works[product] = _repeated(once, repeats[product])
    found = interleaved(works, budget_s, min_rounds)
    seconds = {
        product: times * found[product].least_s / repeats[product]
        for product, times in watcher.seen.items()
    }
    search_s, products_s = found[None].least_s, sum(seconds.values())
    flop = sum(product.flops * times for product, times in watcher.seen.items())
    attention_s = sum(s for product, s in seconds.items() if product.name in ATTENTION)
    return Roofline(
        search_ms=1e3 * search_s,
        products_ms=1e3 * products_s,
        attention_ms=1e3 * attention_s,
        share=round(products_s / search_s, 4),
        num_products=watcher.seen.total(),
        gflop=flop / 1e9,
        search_gflops=round(flop / 1e9 / search_s, 2),
        product_gflops=round(flop / 1e9 / products_s, 2),
    )


def _repeated(once: Callable[[], object], times: int) -> Callable[[], object]:
    def work() -> None:
        for _ in range(times):
            once()

    return work


def _spec(tensor: Tensor) -> Spec | Tensor:
    if tensor.is_mkldnn:
        return tensor
    return Spec(tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _is_spec(value: object) -> bool:
    return isinstance(value, Spec)


def _flops(name: str, args: Sequence[Any], result: Any) -> int:
    if name in ATTENTION:
        query, key, value = args[:3]
        rows = query.numel() // query.shape[-1]
        return int(2 * rows * key.shape[-2] * (query.shape[-1] + value.shape[-1]))
    first = args[1] if name in WITH_BIAS else args[0]
    return int(2 * result.numel() * first.shape[-1])
