"""Other number formats for serving: bfloat16 throughout, or int8 products inside the blocks.

Shape words: inputs and outputs (of one product), rows (of numbers that share a scale).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from model.backbone import Backbone
from model.errors import ModelError
from model.kernels.library import Kernels, find
from model.layers import RelativePositionBias
from model.native_qwen import NativeQwen
from model.native_qwen import to_native as native_qwen
from model.native_t5 import NativeEncoder
from model.native_t5 import to_native as native_t5
from model.packed import FoldedNorm, PackedLinear, can_pack
from model.qwen import Qwen
from model.t5 import T5

SpeedMode = Literal["float32", "bfloat16", "int8"]

LARGEST_CODE = 127
READERS = {
    "attention_norm": ("attention.qkv",),
    "cross_norm": ("cross.query",),
    "ff_norm": ("ff.inner", "ff.gate", "ff.gate_up"),
}
"""Of each norm of a block, the linear maps that read it."""
SMALLEST_SCALE = 1e-30
"""Of a row of zeros, which has codes of 0 whatever its scale."""
PACKED_FROM = 2**18
"""Weights of this many numbers are packed for oneDNN: its call takes longer, its product less."""


def accelerate(
    model: Backbone,
    mode: SpeedMode,
    packs: Callable[[torch.dtype], bool] = can_pack,
    kernels: Callable[[], Kernels | None] = find,
) -> Backbone:
    """A model in eval mode made fast; the one that was given is used up. It cannot be trained.

    Args:
        model: in float32, where it is going to compute.
        mode: float32 changes nothing but the order of the weights. bfloat16 is for weights and
            states alike. int8 multiplies int8 weights and states inside the blocks; embeddings,
            norms, attention and the scores of codes stay in float32.
        packs: whether this processor can multiply by packed weights; they are used where it can.
        kernels: compiled code for the blocks in float32, used by a single thread; None = there is
            none.

    Raises:
        ModelError: int8 elsewhere than on a CPU.
    """
    device = model.embedding.weight.device
    for part in model.modules():
        if isinstance(part, RelativePositionBias):
            part.make()
    model.kernels = kernels() if device.type == "cpu" else None
    if mode == "int8":
        if device.type != "cpu":
            raise ModelError(f"int8 is for the CPU; choose bfloat16 or float32 on {device}")
        return _with_linear(model, Int8Linear)
    dtype = torch.bfloat16 if mode == "bfloat16" else torch.float32
    if device.type == "cpu" and mode == "float32" and torch.get_num_threads() == 1:
        native = _native(model, model.kernels)
        if native is not None:
            return native
    if device.type != "cpu" or not packs(dtype):
        return model.to(dtype)
    _fold_norms(model)
    return _with_linear(model.to(dtype), PackedLinear)


def kernels_of(model: Backbone) -> str:
    """What computes the blocks: a kind of compiled code, such as avx512, or torch."""
    for part in model.modules():
        if isinstance(part, NativeQwen):
            return part.compiled.kind
        if isinstance(part, NativeEncoder):
            return part.kernels.kind
    return "torch"


def _native(model: Backbone, kernels: Kernels | None) -> Backbone | None:
    """The model with compiled blocks, if there are any for it."""
    if kernels is None:
        return None
    if isinstance(model, T5):
        return native_t5(model, kernels)
    return native_qwen(model, kernels) if isinstance(model, Qwen) else None


def _with_linear(model: Backbone, kind: Callable[[nn.Linear], nn.Module]) -> Backbone:
    """Replace the linear maps inside the blocks."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and parent is not model.outputs:
                setattr(parent, name, kind(child))
    return model


def _fold_norms(model: Backbone) -> None:
    """Let the linear maps that alone read a norm take over its weights."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.RMSNorm):
                read = dict(parent.named_modules())
                readers = [read[path] for path in READERS.get(name, ()) if path in read]
                setattr(parent, name, FoldedNorm(child, *readers))


def quantize_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers as multiples of a 127th of the largest in their row.

    Args:
        values: (..., inputs) float32.

    Returns:
        (..., inputs) int8 codes, and (..., 1) float32 scales; codes * scales are nearly the values.
    """
    scales = values.abs().amax(dim=-1, keepdim=True).div_(LARGEST_CODE).clamp_(min=SMALLEST_SCALE)
    return (values / scales).round_().to(torch.int8), scales


class Int8Linear(nn.Module):
    """A linear map with int8 weights, a scale per output, and states rounded to int8 on the way.

    Every state has its own scale, and sums of products of codes are exact: a row's result does not
    depend on the rows beside it.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        codes, scales = quantize_rows(linear.weight.detach())
        self.packed = codes.numel() >= PACKED_FROM
        if self.packed:
            codes = torch.ops.onednn.qlinear_prepack(codes, None)
        self.weight = codes
        bias = None if linear.bias is None else linear.bias.detach().clone()
        self.register_buffer("scales", scales[:, 0], persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        zeros = torch.zeros(linear.out_features, dtype=torch.int64)
        self.register_buffer("zeros", zeros, persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """(..., inputs) float32 -> (..., outputs) float32."""
        codes, scales = quantize_rows(states)
        product = self._packed_product(codes) if self.packed else self._product(codes)
        product = product.mul_(scales)
        return product if self.bias is None else product.add_(self.bias)

    def _product(self, codes: Tensor) -> Tensor:
        sums = torch._int_mm(codes.flatten(0, -2), self.weight.T)  # noqa: SLF001 - its only name
        return (sums * self.scales).view(*codes.shape[:-1], -1)

    def _packed_product(self, codes: Tensor) -> Tensor:
        """The same; oneDNN is fast for unsigned states, so 0 becomes 128 and is taken off again."""
        unsigned = codes.view(torch.uint8).bitwise_xor(128)
        states, weights = (unsigned, 1.0, 128), (self.weight, self.scales, self.zeros)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            *states, *weights, None, 1.0, 0, torch.float32, "none", [], ""
        )  # no bias, float32, and nothing afterwards
        return product
