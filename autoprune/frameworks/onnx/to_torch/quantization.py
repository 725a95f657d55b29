"""Between floating point and integers."""

from __future__ import annotations

import torch
from torch import fx

from autoprune.frameworks.onnx.to_torch.writer import (
    OnnxCall,
    dtype_of,
    torch_dtype,
    writes,
    writes_as,
)


def _spread(t: torch.Tensor, x: torch.Tensor, axis: int, block: int) -> torch.Tensor:
    """Scales in a shape that broadcasts with `x`: one for all, for each position, or each block."""
    if t.ndim == 0 or t.numel() == 1:
        return t.reshape(())
    if t.ndim == 1:
        shape = [1] * x.ndim
        shape[axis] = -1
        return t.reshape(shape)
    return t.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])


def dequantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    zero: torch.Tensor | None = None,
    *,
    axis: int,
    block: int,
) -> torch.Tensor:
    """`(x - zero) * scale`."""
    y = x.to(scale.dtype)
    if zero is not None:
        y = y - _spread(zero, x, axis, block).to(scale.dtype)
    return y * _spread(scale, x, axis, block)


writes_as("DequantizeLinear", dequantize, "x scale zero | axis=1 block_size:block=0")


def quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    zero: torch.Tensor | None,
    axis: int,
    block: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """`round(x / scale) + zero`, within the range of `dtype`."""
    y = torch.round(x / _spread(scale, x, axis, block))
    if zero is not None:
        y = y + _spread(zero, x, axis, block).to(y.dtype)
    limits = torch.iinfo(dtype)
    return torch.clamp(y, limits.min, limits.max).to(dtype)


@writes("QuantizeLinear")
def _quantize(call: OnnxCall) -> fx.Node:
    axis, block = call.attribute("axis", 1), call.attribute("block_size", 0)
    given = call.attribute("output_dtype", 0)
    dtype = torch_dtype(call.dtype(2)) if call.has(2) else dtype_of(given or 2)
    if dtype.is_floating_point:
        raise call.unsupported("it makes floating point numbers of eight bits")
    return call.emit(quantize, call.tensor(0), call.tensor(1), call.tensor(2), axis, block, dtype)
