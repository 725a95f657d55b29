"""Operators that summarise axes: reductions, softmax, sorting, cumulative sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from autoprune.frameworks.onnx.to_torch.sizes import list_of
from autoprune.frameworks.onnx.to_torch.writer import OnnxCall, writes

Dims = list[int]


def reduce_prod(x: torch.Tensor, dims: Dims, keep: bool) -> torch.Tensor:
    """Product."""
    for dim in sorted((d % x.ndim for d in dims), reverse=True):
        x = torch.prod(x, dim, keep)
    return x


def reduce_l1(x: torch.Tensor, dims: Dims, keep: bool) -> torch.Tensor:
    """Sum of magnitudes."""
    return torch.sum(torch.abs(x), dims, keep)


def reduce_l2(x: torch.Tensor, dims: Dims, keep: bool) -> torch.Tensor:
    """Root of the sum of squares."""
    norm: torch.Tensor = torch.linalg.vector_norm(x, 2, dims, keep)
    return norm


def reduce_squares(x: torch.Tensor, dims: Dims, keep: bool) -> torch.Tensor:
    """Sum of squares."""
    return torch.sum(x * x, dims, keep)


def reduce_log(x: torch.Tensor, dims: Dims, keep: bool) -> torch.Tensor:
    """Logarithm of the sum."""
    return torch.log(torch.sum(x, dims, keep))


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceSum": torch.sum, "ReduceMean": torch.mean, "ReduceMax": torch.amax,
    "ReduceMin": torch.amin, "ReduceProd": reduce_prod, "ReduceL1": reduce_l1,
    "ReduceL2": reduce_l2, "ReduceSumSquare": reduce_squares, "ReduceLogSum": reduce_log,
    "ReduceLogSumExp": torch.logsumexp,
}  # fmt: skip


@writes(" ".join(_REDUCTIONS))
def _reduce(call: OnnxCall) -> fx.Node:
    axes = call.given(1, "axes")
    if isinstance(axes, fx.Node):
        raise call.unsupported("its axes depend on data")
    if not list_of(axes if axes is not None else ()):
        if call.attribute("noop_with_empty_axes", 0):
            return call.tensor(0)
        axes = tuple(range(call.rank))
    keep = call.attribute("keepdims", True)
    return call.emit(_REDUCTIONS[call.op], call.tensor(0), [int(a) for a in list_of(axes)], keep)


@writes("ArgMax ArgMin")
def _arg(call: OnnxCall) -> fx.Node:
    if call.attribute("select_last_index", 0):
        raise call.unsupported("it selects the last of equals")
    target = torch.argmax if call.op == "ArgMax" else torch.argmin
    keep = call.attribute("keepdims", True)
    return call.emit(target, call.tensor(0), call.attribute("axis", 0), keep)


def hardmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """One at the first largest element along `dim`, zero elsewhere."""
    largest = torch.argmax(x, dim, keepdim=True)
    return torch.zeros_like(x).scatter(dim, largest, 1)


_SOFTMAX: dict[str, Callable[..., Any]] = {
    "Softmax": F.softmax, "LogSoftmax": F.log_softmax, "Hardmax": hardmax,
}  # fmt: skip


def shaped_like(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The elements in the shape of another tensor."""
    return x.reshape(other.shape)


@writes("Softmax LogSoftmax Hardmax")
def _softmax(call: OnnxCall) -> fx.Node:
    """Up to opset 12 everything from the axis on is one row."""
    target, x = _SOFTMAX[call.op], call.tensor(0)
    axis = call.attribute("axis", 1 if call.opset < 13 else -1) % call.rank
    if call.opset >= 13 or axis == call.rank - 1:
        return call.emit(target, x, axis)
    rows = call.emit(target, call.emit(torch.flatten, x, axis), axis)
    return call.emit(shaped_like, rows, x)


@writes("TopK")
def _top(call: OnnxCall) -> list[fx.Node]:
    axis = call.attribute("axis", -1)
    largest, ordered = (call.attribute(name, True) for name in ("largest", "sorted"))
    count = call.attribute("k") if call.opset < 10 else call.number(1)
    return call.emit_parts(top, 2, call.tensor(0), count, axis, largest, ordered)


def top(
    x: torch.Tensor, count: Any, axis: int, largest: bool, ordered: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest (or smallest) elements and their positions."""
    found = torch.topk(x, list_of(count)[0], axis, largest, ordered)
    return found.values, found.indices


def cumulative(x: torch.Tensor, axis: int, exclusive: bool, backward: bool) -> torch.Tensor:
    """Sums up to each element, from either end, with or without it."""
    y = torch.flip(x, (axis,)) if backward else x
    total = torch.cumsum(y, axis).to(x.dtype)
    total = total - y if exclusive else total
    return torch.flip(total, (axis,)) if backward else total


@writes("CumSum")
def _cumulative(call: OnnxCall) -> fx.Node:
    axis = call.known(1)
    if axis is None:
        raise call.unsupported("its axis depends on data")
    exclusive, backward = (call.attribute(name, False) for name in ("exclusive", "reverse"))
    return call.emit(cumulative, call.tensor(0), int(axis.item()), exclusive, backward)
