"""How much of a search is matrix products, at the rate this machine does them alone.

Every product that a search makes torch do is done again on its own: the same operation, shapes,
layout and type, on operands that are still in the cache; and by our compiled code, where there is
any. The faster of the two is the machine's rate for it. Their sum is what the search would take if
all else cost nothing; attention counts as a product, its softmax included.
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

from model.kernels.library import Kernels
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
        outputs: numbers in a row of the result.
        flops: two per multiply-add.
    """

    operation: Operation
    arguments: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...]
    outputs: int
    flops: int

    @property
    def name(self) -> str:
        """Such as mm."""
        return str(self.operation.overloadpacket.__name__)

    def compiled(self, kernels: Kernels) -> Callable[[], object] | None:
        """The same by compiled code, on operands of its own; None if it has no such product."""
        if self.name in ATTENTION:
            query, key, value = (each.fresh() for each in self.arguments[:3])
            return lambda: kernels.attention(query, key, value)
        if self.name not in (PACKED, "linear", "mm") or not kernels.fits(self.outputs):
            return None
        states = torch.randn(self.arguments[0].shape)
        packed = kernels.pack(torch.randn(self.outputs, states.shape[-1]))
        return lambda: kernels.linear(states, packed, self.outputs)

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
            first: Any = result[0] if isinstance(result, tuple) else result
            product = Product(
                func, arguments, tuple(named.items()), first.shape[-1], _flops(name, args, result)
            )
            self.seen[product] += 1
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
def roofline(
    search: Callable[[], object],
    budget_s: float,
    min_rounds: int = 3,
    *,
    by_torch: Callable[[], object] | None = None,
    kernels: Kernels | None = None,
) -> Roofline:
    """Time a search and its products in interleaved rounds.

    Args:
        search: to time.
        budget_s: for all of it.
        min_rounds: however long they take.
        by_torch: the same search with all of its products done by torch, to see them; None = it is.
        kernels: compiled code that may do them faster.
    """
    with ProductWatcher() as watcher:
        (by_torch or search)()
    works: dict[tuple[Product, str] | None, Callable[[], object]] = {None: search}
    repeats: dict[tuple[Product, str], int] = {}
    for product in watcher.seen:
        ways = {"torch": product.work()}
        if kernels is not None and (compiled := product.compiled(kernels)) is not None:
            ways["compiled"] = compiled
        for way, once in ways.items():
            alone = interleaved({0: once}, 0)[0].least_s
            repeats[product, way] = max(1, math.ceil(LEAST_S / max(alone, 1e-6)))
            works[product, way] = _repeated(once, repeats[product, way])
    found = interleaved(works, budget_s, min_rounds)
    seconds = dict.fromkeys(watcher.seen, math.inf)
    for (product, way), times in repeats.items():
        once_s = found[product, way].least_s / times
        seconds[product] = min(seconds[product], watcher.seen[product] * once_s)
    return _summed(found[None].least_s, watcher.seen, seconds)


def _summed(
    search_s: float, seen: Mapping[Product, int], seconds: Mapping[Product, float]
) -> Roofline:
    products_s = sum(seconds.values())
    flop = sum(product.flops * times for product, times in seen.items())
    attention_s = sum(s for product, s in seconds.items() if product.name in ATTENTION)
    return Roofline(
        search_ms=1e3 * search_s,
        products_ms=1e3 * products_s,
        attention_ms=1e3 * attention_s,
        share=round(products_s / search_s, 4),
        num_products=sum(seen.values()),
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
