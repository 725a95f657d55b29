"""Slice, Split, Squeeze, Expand, Pad and ConstantOfShape, which take all axes in one call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from autoprune.ir.axes import Axis
from autoprune.ops.padding import padded
from autoprune.ops.rule import Operator, known, passes_on, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing


def _bounds(call: Call) -> Iterator[tuple[int, int, int, int]]:
    """Dimension, start, end and step of each slice, with 0 <= start <= end <= size if step is 1."""
    shape = call.tensor("input").shape
    names = ("axes", "starts", "ends", "steps")
    for dim, start, end, step in zip(*(call.integers(n) for n in names), strict=True):
        dim %= len(shape)
        size = shape[dim]
        start, end = (n + size if n < 0 else n for n in (start, end))
        start = min(max(start, 0), size)
        yield dim, start, min(max(end, start), size), step


def _slice_axes(call: Typing) -> list[Shape]:
    """Each slice looks inside its axis as before + piece + after."""
    shape = list(call.axes_of("input"))
    for dim, start, end, step in _bounds(call):
        axis = shape[dim]
        if (start, end, step) == (0, axis.size, 1):
            continue
        if step != 1 or call.is_fixed(axis):
            reason = "sliced with a step, or out of an axis that cannot be cut"
            call.pin(axis, reason)
            shape[dim] = call.fixed(call.output.shape[dim], reason)
        else:
            sizes = (start, end - start, axis.size - end)
            shape[dim] = call.axes.pieces(axis, sizes)[1]
    return [tuple(shape)]


def _slice_resize(call: Sizing) -> Resized:
    source = call.axes_of("input")
    starts, ends = list(call.integers("starts")), list(call.integers("ends"))
    for i, (dim, start, end, _) in enumerate(_bounds(call)):
        axis = source[dim]
        if call.size(axis) != axis.size and (start, end) != (0, axis.size):
            starts[i] = call.before(axis, start)
            ends[i] = starts[i] + call.size(call.axes_of(call.output)[dim])
    return Resized({"starts": tuple(starts), "ends": tuple(ends)})


register(
    "onnx.Slice",
    Operator(axes=_slice_axes, zero=passes_on, resize=_slice_resize, aliases=True, moves=True),
)


def _split_resize(call: Sizing) -> Resized:
    dim = call.integer("dim") % len(call.tensor("input").shape)
    axes = [call.axes_of(v)[dim] for v in call.node.outputs]
    if all(call.size(axis) == axis.size for axis in axes):
        return Resized()
    return Resized({"split": tuple(call.size(axis) for axis in axes)})


register("onnx.Split", replace(known("aten.split"), resize=_split_resize))


def _squeeze_resize(call: Sizing) -> Resized:
    """An axis that the cut leaves at size one is not one that was to be squeezed."""
    axes = call.axes_of("input")
    if call.get("dim") or all(axis.size == 1 or call.size(axis) > 1 for axis in axes):
        return Resized()
    return Resized({"dim": tuple(i for i, axis in enumerate(axes) if axis.size == 1)})


register("onnx.Squeeze", replace(known("aten.squeeze"), resize=_squeeze_resize))


def _expand_resize(call: Sizing) -> Resized:
    """The shape may be shorter than the result, and ask for less than the input has."""
    count = len(call.integers("size"))
    output = call.axes_of(call.output)
    return (
        Resized({"size": call.resized("size", output[len(output) - count :])})
        if count
        else (Resized())
    )


register("onnx.Expand", replace(known("aten.expand"), resize=_expand_resize))


def _widths(call: Call) -> Iterator[tuple[int, int, int]]:
    """Dimension and number of positions before and after."""
    pads, axes = call.integers("pads"), call.integers("axes")
    rank, count = len(call.tensor("input").shape), len(axes)
    for i, dim in enumerate(axes):
        yield dim % rank, pads[i], pads[count + i]


def _pad_axes(call: Typing) -> list[Shape]:
    return [padded(call, call.axes_of("input"), _widths(call))]


def _pad_resize(call: Sizing) -> Resized:
    output: Shape = call.axes_of(call.output)
    pads = list(call.integers("pads"))
    count = len(pads) // 2
    for i, (dim, left, right) in enumerate(_widths(call)):
        axis: Axis = output[dim]
        if call.size(axis) != axis.size and left >= 0 and right >= 0:
            pads[i] = call.before(axis, left)
            pads[count + i] = call.size(axis) - call.before(axis, axis.size - right)
    return Resized({"pads": tuple(pads)})


register("onnx.Pad", replace(known("aten.pad"), axes=_pad_axes, resize=_pad_resize))


def _filled_zero(call: Zeroing) -> State:
    return State.ZERO if call.get("fill_value", 0) == 0 else State.CONSTANT


register("onnx.ConstantOfShape", replace(known("aten.full"), zero=_filled_zero))
