"""What torch.onnx.export lacks or gets wrong, in terms of what it has.

An operator is decomposed into others, or translated to ONNX operators. Those of other libraries
count if they are loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18
from torch import Tensor
from torch.nn import functional as F

op: Any = opset18  # its annotations know tensors of one element type only

INT64 = 7
"""ONNX's number of that type."""


def decompositions() -> dict[Any, Callable[..., Any]]:
    """By overload, what `ExportedProgram.run_decompositions` puts in its place.

    Where that returns NotImplemented, the operator stays.
    """
    aten = torch.ops.aten
    return {
        aten.scaled_dot_product_attention.default: _attention,
        aten.cdist.default: _distances,
        aten._is_all_true.default: torch.all,
        aten.squeeze.dim: _squeeze,
        aten.rsub.Scalar: _subtract_from,
        aten.fake_quantize_per_tensor_affine.default: _rounded,
        aten.fake_quantize_per_tensor_affine.tensor_qparams: _rounded,
        aten.fake_quantize_per_channel_affine.default: _rounded_per_channel,
    }


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """By overload, a function that emits ONNX operators, as torch.onnx.export takes it."""
    experts = getattr(torch.ops.transformers, "grouped_mm_fallback", None)
    return {} if experts is None else {experts.default: _grouped_product}


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention on tensors of four dimensions, where those given have more or less."""
    if query.dim() == 4:
        return NotImplemented
    batch = torch.broadcast_shapes(*(t.shape[:-3] for t in (query, key, value)))

    def flat(tensor: Tensor) -> Tensor:
        inner = tensor.shape[-3:]
        return tensor.expand(*batch, *inner).reshape(-1, *inner)

    if attn_mask is not None and attn_mask.dim() > 3:
        attn_mask = flat(attn_mask)
    result = F.scaled_dot_product_attention(
        flat(query), flat(key), flat(value), attn_mask, dropout_p, is_causal,
        scale=scale, enable_gqa=enable_gqa,
    )  # fmt: skip
    return result.reshape(*batch, *result.shape[1:])


def _distances(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    """Minkowski distances between all pairs of rows."""
    differences = (x1.unsqueeze(-2) - x2.unsqueeze(-3)).abs()
    if p == 2:
        return differences.square().sum(-1).sqrt()
    return differences.pow(p).sum(-1).pow(1 / p)


def _squeeze(x: Tensor, dim: int) -> Any:
    """Only axes of size one can be squeezed in ONNX; others stay, as in torch."""
    return NotImplemented if x.shape[dim] == 1 else x.view_as(x)


def _subtract_from(x: Tensor, other: float, alpha: float = 1) -> Any:
    """`other - alpha * x` of integers and a fraction, whose types have to be made the same."""
    kind = torch.result_type(x, other)
    return x.to(kind) * -alpha + other if x.dtype != kind else NotImplemented


def _rounded(
    x: Tensor, scale: float | Tensor, zero_point: int | Tensor, quant_min: int, quant_max: int
) -> Tensor:
    """What remains of values after they were quantized and dequantized."""
    whole = (x * (1 / scale)).round() + zero_point
    return (whole.clamp(quant_min, quant_max) - zero_point) * scale


def _rounded_per_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Tensor:
    along = [-1 if dim == axis % x.dim() else 1 for dim in range(x.dim())]
    return _rounded(x, scale.view(along), zero_point.view(along), quant_min, quant_max)


def _grouped_product(x: Any, weights: Any, ends: Any) -> Any:
    """Products of slices of rows with a matrix each; rows beyond the last slice give zeros.

    Args:
        x: [rows, width].
        weights: [matrices, width, outputs].
        ends: [matrices], where the slice of each matrix ends.
    """
    matrices, _, outputs = weights.shape
    ends, first = op.Cast(ends, to=INT64), op.Constant(value_ints=[0])
    products, start = [], first
    for i in range(matrices):
        end = op.Gather(ends, op.Constant(value_ints=[i]))
        matrix = op.Gather(weights, op.Constant(value_int=i))
        products.append(op.MatMul(op.Slice(x, start, end, first), matrix))
        start = end
    rest = op.Sub(op.Shape(x, start=0, end=1), start)
    zeros = op.Expand(
        op.CastLike(op.Constant(value_float=0.0), x),
        op.Concat(rest, op.Constant(value_ints=[outputs]), axis=0),
    )
    return op.Concat(*products, zeros, axis=0)
