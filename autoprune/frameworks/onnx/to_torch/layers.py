"""Convolutions, products of matrices and normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from autoprune.errors import TraceError
from autoprune.frameworks.onnx.to_torch.writer import OnnxCall, writes, writes_as

Pads = tuple[int, ...]
"""Sizes added before each dimension, then after each."""


def pads_of(call: OnnxCall, kernel: Sequence[int]) -> Pads:
    """The padding of a window operator at the example's sizes."""
    count = len(kernel)
    auto = call.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        none: Pads = (0,) * (2 * count)
        return none if auto == "VALID" else call.attribute("pads", none)
    strides = call.attribute("strides", (1,) * count)
    dilations = call.attribute("dilations", (1,) * count)
    before, after = [], []
    for n, k, s, d in zip(call.shape(0)[2:], kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return (*before, *after)


def of_this_size(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """The input itself, if it is of the size that the padding was worked out for.

    Raises:
        TraceError: if it is not.
    """
    if tuple(x.shape[2:]) != size:
        raise TraceError(
            f"padding was worked out for inputs of {size}, got {tuple(x.shape[2:])}",
            hint="bring the model into torch with example inputs of the size it is to run on",
        )
    return x


def windowed(call: OnnxCall) -> fx.Node:
    """The input of a window operator; strided `SAME` padding depends on its size."""
    automatic = call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if automatic and max(call.attribute("strides", (1,))) > 1:
        return call.emit(of_this_size, call.tensor(0), tuple(call.shape(0)[2:]))
    return call.tensors[0]


def symmetric(pads: Pads) -> bool:
    """Whether as much is added after as before."""
    return pads[: len(pads) // 2] == pads[len(pads) // 2 :]


def for_pad(pads: Pads) -> list[int]:
    """The order of torch: last dimension first, before and after."""
    count = len(pads) // 2
    return [pads[j] for i in reversed(range(count)) for j in (i, i + count)]


_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@writes("Conv")
def _convolution(call: OnnxCall) -> fx.Node:
    kernel = call.shape(1)[2:]
    count = len(kernel)
    if count not in _CONVOLUTIONS:
        raise call.unsupported(f"it has {count} dimensions")
    x, pads = windowed(call), pads_of(call, kernel)
    if not symmetric(pads):
        x, pads = call.emit(F.pad, x, for_pad(pads)), (0,) * (2 * count)
    return call.emit(
        _CONVOLUTIONS[count], x, call.tensor(1), call.tensor(2),
        call.attribute("strides", (1,) * count), pads[:count],
        call.attribute("dilations", (1,) * count), call.attribute("group", 1),
    )  # fmt: skip


_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def cropped(x: torch.Tensor, pads: Pads) -> torch.Tensor:
    """Without `pads` at the ends of the last dimensions."""
    return F.pad(x, [-n for n in for_pad(pads)])


@writes("ConvTranspose")
def _transposed_convolution(call: OnnxCall) -> fx.Node:
    count = len(call.shape(1)) - 2
    automatic = call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if count not in _TRANSPOSED or automatic or call.attribute("output_shape"):
        raise call.unsupported("its padding follows from the size of its output")
    pads = call.attribute("pads") or (0,) * (2 * count)
    uneven = not symmetric(pads)
    y = call.emit(
        _TRANSPOSED[count], call.tensor(0), call.tensor(1), call.tensor(2),
        call.attribute("strides", (1,) * count), (0,) * count if uneven else pads[:count],
        call.attribute("output_padding", (0,) * count), call.attribute("group", 1),
        call.attribute("dilations", (1,) * count),
    )  # fmt: skip
    return call.emit(cropped, y, pads) if uneven else y


@writes("Gemm")
def _gemm(call: OnnxCall) -> fx.Node:
    a, b, bias = call.tensor(0), call.tensor(1), call.tensor(2)
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    if call.attribute("transA", 0):
        a = call.emit(torch.t, a)
    row = bias is None or (beta == 1 and len(call.shape(2)) == 1 and call.shape(2)[0] > 1)
    if alpha == 1 and row:
        weight = b if call.attribute("transB", 0) else call.emit(torch.t, b)
        return call.emit(F.linear, a, weight, bias)
    y = call.emit(torch.matmul, a, call.emit(torch.t, b) if call.attribute("transB", 0) else b)
    y = y if alpha == 1 else call.emit(torch.mul, y, alpha)
    if bias is None:
        return y
    return call.emit(torch.add, y, bias if beta == 1 else call.emit(torch.mul, bias, beta))


@writes("Einsum")
def _einsum(call: OnnxCall) -> fx.Node:
    return call.emit(torch.einsum, call.attribute("equation"), *call.tensors)


class BatchNorm(nn.Module):
    """Batch normalization whose tensors belong to someone else.

    In training it uses the statistics of the batch and updates the running ones in place.

    Args:
        momentum: share of the batch in the new running statistics.
        eps: added to the variance.
    """

    def __init__(self, momentum: float, eps: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps

    def forward(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
    ) -> torch.Tensor:
        """Normalize `x`, shape [batch, channels, ...]."""
        return F.batch_norm(x, mean, variance, weight, bias, self.training, self.momentum, self.eps)

    def extra_repr(self) -> str:
        return f"momentum={self.momentum:.4g}, eps={self.eps:.4g}"


@writes("BatchNormalization")
def _batch_norm(call: OnnxCall) -> fx.Node:
    if call.attribute("training_mode", 0):
        raise call.unsupported("training_mode=1")
    norm = BatchNorm(1 - call.attribute("momentum", 0.9), call.attribute("epsilon", 1e-5))
    return call.emit_module("batch_norm", norm, *call.tensors)


@writes("InstanceNormalization")
def _instance_norm(call: OnnxCall) -> fx.Node:
    x, weight, bias = call.tensors
    eps = call.attribute("epsilon", 1e-5)
    return call.emit(F.instance_norm, x, weight=weight, bias=bias, eps=eps)


@writes("GroupNormalization")
def _group_norm(call: OnnxCall) -> fx.Node:
    x, weight, bias = call.tensors
    groups = call.attribute("num_groups")
    each = call.shape(0)[1] // groups
    if call.opset < 21:  # one weight for each group
        weight, bias = (call.emit(torch.repeat_interleave, t, each) for t in (weight, bias))
    return call.emit(F.group_norm, x, groups, weight, bias, call.attribute("epsilon", 1e-5))


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    axis: int,
    eps: float,
) -> torch.Tensor:
    """Normalize the dimensions from `axis` on; weights may be broadcast."""
    shape = x.shape[axis:]
    if weight.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(x, shape, weight, bias, eps)
    y = F.layer_norm(x, shape, eps=eps) * weight
    return y if bias is None else y + bias


writes_as("LayerNormalization", layer_norm, "x weight bias | axis=-1 epsilon:eps=1e-5")


def rms_norm(x: torch.Tensor, weight: torch.Tensor, axis: int, eps: float) -> torch.Tensor:
    """Divide by the root mean square over the dimensions from `axis` on."""
    if weight.shape == x.shape[axis:]:
        return F.rms_norm(x, x.shape[axis:], weight, eps)
    return F.rms_norm(x, x.shape[axis:], eps=eps) * weight


writes_as(
    "RMSNormalization SimplifiedLayerNormalization microsoft.SimplifiedLayerNormalization",
    rms_norm,
    "x weight | axis=-1 epsilon:eps=1e-5",
)
writes_as("LpNormalization", F.normalize, "x | p=2 axis:dim=-1")
writes_as("MatMul", torch.matmul)


@writes("LRN")
def _local_response(call: OnnxCall) -> fx.Node:
    size = call.attribute("size")
    if size % 2 == 0:
        raise call.unsupported("its window has no middle")
    numbers: list[Any] = [
        call.attribute("alpha", 1e-4), call.attribute("beta", 0.75), call.attribute("bias", 1.0)
    ]  # fmt: skip
    return call.emit(F.local_response_norm, call.tensor(0), size, *numbers)
