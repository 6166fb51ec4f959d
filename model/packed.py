"""Linear maps and norms arranged for serving on a CPU.

A linear map's weights are stored in the order in which oneDNN multiplies by them, so that nothing
is copied per product, and what follows a product (ReLU, a sum) is done while its result is in
registers. A norm's weights become part of the linear maps that read it. Shape words: inputs,
outputs, width (of a state).
"""

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

EXPECTED_ROWS = 16
"""For which oneDNN chooses the order; measured to be good for 10 to 640 rows, and fair for one."""
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


class PackedLinear(nn.Module):
    """A linear map in eval mode with packed weights; they replace the ones it is made from."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        reorder = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001 - its only name
        self.packed: Tensor = reorder(weight, EXPECTED_ROWS)
        self.offset = None if linear.bias is None else linear.bias.detach().clone()

    def forward(self, states: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise.default(  # noqa: SLF001
            states, self.packed, self.offset, "none", [], ""
        )
        return found

    __call__ = forward  # nn.Module's own takes as long as a small product

    def relu(self, states: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs), negative ones as 0."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise.default(  # noqa: SLF001
            states, self.packed, self.offset, "relu", [], ""
        )
        return found

    def add(self, states: Tensor, to: Tensor) -> Tensor:
        """(..., inputs) -> `to`, which is (..., outputs), plus the product."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise.binary(  # noqa: SLF001
            states, to, self.packed, self.offset, "add"
        )
        return found


class FoldedNorm(nn.Module):
    """RMSNorm by fewer operations.

    Args:
        norm: the norm that it stands for.
        readers: linear maps that alone read it: they take over its weights, in place. None = it
            keeps them.
    """

    def __init__(self, norm: nn.RMSNorm, *readers: nn.Linear) -> None:
        super().__init__()
        width = norm.weight.numel()
        self.floor = torch.tensor(math.sqrt(width * (norm.eps or 0.0)))
        weight = norm.weight.detach() * math.sqrt(width)
        for reader in readers:
            reader.weight.data.mul_(weight)
        self.weight = None if readers else weight

    def forward(self, states: Tensor) -> Tensor:
        """(..., width) -> the same shape; by sqrt(width) smaller if readers make up for it."""
        length = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=torch.float32)
        normed: Tensor = states / length.hypot_(self.floor)
        normed = normed if self.weight is None else normed * self.weight
        return normed if states.dtype == torch.float32 else normed.to(states.dtype)

    __call__ = forward


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch has these operators for the processor, and they compute the right thing.

    They are not part of torch's documented interface: where they are missing or wrong, weights
    stay as they are.
    """
    random = torch.Generator().manual_seed(0)
    linear = nn.Linear(48, 80).requires_grad_(requires_grad=False)
    linear.weight.copy_(torch.randn(80, 48, generator=random) / 7)
    linear.to(dtype)
    states = torch.randn(3, 5, 48, generator=random).to(dtype)
    to = torch.randn(3, 5, 80, generator=random).to(dtype)
    expected = linear(states)
    try:
        packed = PackedLinear(linear)
        found = packed(states), packed.relu(states), packed.add(states, to)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    pairs = zip(found, (expected, F.relu(expected), expected + to), strict=True)
    atol = TOLERANCE.get(dtype, 0.0)
    return all(torch.allclose(one, other, rtol=atol, atol=atol) for one, other in pairs)
