"""Operators that summarise axes: reductions, softmax, sorting, cumulative sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from autoprune.frameworks.onnx.to_torch.sizes import list_of
from autoprune.frameworks.onnx.to_torch.writer import OnnxCall, writes, writes_as


def product(x: torch.Tensor, dim: list[int], keepdim: bool) -> torch.Tensor:
    """The product over some dimensions."""
    for d in sorted((d % x.ndim for d in dim), reverse=True):
        x = torch.prod(x, d, keepdim)
    return x


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceSum": torch.sum, "ReduceMean": torch.mean, "ReduceMax": torch.amax,
    "ReduceMin": torch.amin, "ReduceProd": product, "ReduceL1": torch.sum,
    "ReduceL2": torch.linalg.vector_norm, "ReduceSumSquare": torch.sum, "ReduceLogSum": torch.sum,
    "ReduceLogSumExp": torch.logsumexp,
}  # fmt: skip
_BEFORE = {"ReduceL1": torch.abs, "ReduceSumSquare": torch.square}


@writes(" ".join(_REDUCTIONS))
def _reduce(call: OnnxCall) -> fx.Node:
    axes = call.given(1, "axes")
    if isinstance(axes, fx.Node):
        raise call.unsupported("its axes depend on data")
    if not list_of(axes if axes is not None else ()):
        if call.attribute("noop_with_empty_axes", 0):
            return call.tensors[0]
        axes = tuple(range(call.rank))
    x, dims = call.tensor(0), [int(a) for a in list_of(axes)]
    if call.op in _BEFORE:
        x = call.emit(_BEFORE[call.op], x)
    y = call.emit(_REDUCTIONS[call.op], x, dim=dims, keepdim=call.attribute("keepdims", True))
    return call.emit(torch.log, y) if call.op == "ReduceLogSum" else y


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


def top(
    x: torch.Tensor, count: Any, axis: int, largest: bool, ordered: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest (or smallest) elements and their positions."""
    found = torch.topk(x, list_of(count)[0], axis, largest, ordered)
    return found.values, found.indices


writes_as("TopK", top, "x k! | axis=-1 largest=True sorted:ordered=True", parts=True)


def cumulative(x: torch.Tensor, axis: Any, exclusive: bool, backward: bool) -> torch.Tensor:
    """Sums up to each element, from either end, with or without it."""
    dim = list_of(axis)[0]
    y = torch.flip(x, (dim,)) if backward else x
    total = torch.cumsum(y, dim).to(x.dtype)
    total = total - y if exclusive else total
    return torch.flip(total, (dim,)) if backward else total


writes_as("CumSum", cumulative, "x axis! | exclusive=False reverse:backward=False")
