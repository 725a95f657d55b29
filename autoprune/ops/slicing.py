"""Operators that take an axis apart, or pieces and windows out of it."""

from __future__ import annotations

from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.graph import Value
from autoprune.ops.pinning import fixed_shape
from autoprune.ops.rule import Operator, passes_on, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, Typing

_SPLIT_DIMS = {"hsplit": 1, "vsplit": 0, "dsplit": 2}


def _split_dim(call: Call) -> int:
    rank = len(call.tensors[0].shape)
    packet = call.node.op.split(".")[1]
    return min(_SPLIT_DIMS.get(packet, call.integer("dim", 0) % rank), rank - 1)


def _split_axes(call: Typing) -> list[Shape]:
    """A split looks inside the axis as a concatenation of its pieces."""
    source = call.axes_of(call.tensors[0])
    dim = _split_dim(call)
    sizes = [v.shape[dim] for v in call.node.outputs]
    pieces = call.axes.pieces(source[dim], sizes)
    return [(*source[:dim], piece, *source[dim + 1 :]) for piece in pieces]


def _split_resize(call: Sizing) -> Resized:
    """Pieces may end up of different sizes, which only a list of sizes can say."""
    dim = _split_dim(call)
    axes = [call.axes_of(v)[dim] for v in call.node.outputs]
    if all(call.size(axis) == axis.size for axis in axes):
        return Resized()
    sizes = tuple(call.size(axis) for axis in axes)
    return Resized({"split_sizes": sizes, "dim": dim}, op="aten.split_with_sizes.default")


register(
    "aten.split aten.split_with_sizes aten.chunk aten.tensor_split aten.unsafe_chunk "
    "aten.unsafe_split aten.unsafe_split_with_sizes aten.hsplit aten.vsplit aten.dsplit",
    Operator(axes=_split_axes, zero=passes_on, resize=_split_resize, aliases=True, moves=True),
)


def _unbind_axes(call: Typing) -> list[Shape]:
    """Every position of the axis gets a name of its own, so none of them can go."""
    source = call.axes_of(call.tensors[0])
    dim = call.integer("dim", 0) % len(source)
    _single_out(call, source[dim])
    return [(*source[:dim], *source[dim + 1 :])] * len(call.node.outputs)


def _single_out(call: Typing, axis: Axis) -> None:
    if not call.is_fixed(axis):
        call.axes.unify(axis, ax.singles(axis.size))


register("aten.unbind", Operator(axes=_unbind_axes, zero=passes_on, aliases=True, moves=True))


def slice_bounds(call: Call, size: int) -> tuple[int, int]:
    """Start and end of a slice as positions from the left."""
    if "length" in call.node.arguments:
        start = call.integer("start")
        start += size if start < 0 else 0
        return start, start + call.integer("length")
    start, end = call.integer("start", 0), call.integer("end", size)
    start, end = (n + size if n < 0 else n for n in (start, end))
    start = min(max(start, 0), size)
    return start, min(max(end, start), size)


def _slice_axes(call: Typing) -> list[Shape]:
    """`x[a:b]` looks inside the axis as before + piece + after."""
    source = call.axes_of(call.tensors[0])
    dim = call.integer("dim", 0) % len(source)
    axis = source[dim]
    start, end = slice_bounds(call, axis.size)
    if (start, end) == (0, axis.size) and call.integer("step", 1) == 1:
        return [source]
    if call.integer("step", 1) != 1 or call.is_fixed(axis):
        reason = "sliced with a step, or out of an axis that cannot be cut"
        call.pin(axis, reason)
        piece = call.fixed(call.output.shape[dim], reason)
    else:
        sizes = (start, end - start, axis.size - end)
        before, piece, after = call.axes.pieces(axis, sizes)
        call.unread.extend((before, after))
    return [(*source[:dim], piece, *source[dim + 1 :])]


def _slice_resize(call: Sizing) -> Resized:
    source = call.axes_of(call.tensors[0])
    dim = call.integer("dim", 0) % len(source)
    axis = source[dim]
    if call.size(axis) == axis.size:
        return Resized()
    start, end = slice_bounds(call, axis.size)
    if (start, end) == (0, axis.size):
        return Resized()
    first = call.before(axis, start)
    length = call.size(call.axes_of(call.output)[dim])
    if "length" in call.node.arguments:
        return Resized({"start": first, "length": length})
    return Resized({"start": first, "end": first + length})


register(
    "aten.slice aten.narrow",
    Operator(axes=_slice_axes, zero=passes_on, resize=_slice_resize, aliases=True, moves=True),
)


def _select_axes(call: Typing) -> list[Shape]:
    """`x[i]` singles out one position; those before and after it may still go."""
    source = call.axes_of(call.tensors[0])
    dim = call.integer("dim", 0) % len(source)
    axis = source[dim]
    if isinstance(call.get("index"), Value):
        call.pin(axis, "indexed by a computed position")
    elif not call.is_fixed(axis):
        index = call.integer("index") % axis.size
        before, _, after = call.axes.pieces(axis, (index, 1, axis.size - index - 1))
        call.unread.extend((before, after))
    return [(*source[:dim], *source[dim + 1 :])]


def _select_resize(call: Sizing) -> Resized:
    source = call.axes_of(call.tensors[0])
    axis = source[call.integer("dim", 0) % len(source)]
    if call.size(axis) == axis.size:
        return Resized()
    return Resized({"index": call.before(axis, call.integer("index") % axis.size)})


register(
    "aten.select.int",
    Operator(axes=_select_axes, zero=passes_on, resize=_select_resize, aliases=True, moves=True),
)


def _unfold_axes(call: Typing) -> list[Shape]:
    """Overlapping windows of one axis; their positions come last."""
    shape = list(call.axes_of(call.tensors[0]))
    if not shape:  # a number in a window of its own
        return [fixed_shape(call, call.output.shape, "positions inside a window")]
    dim = call.integer("dimension") % len(shape)
    call.pin(shape[dim], "a window slides over it")
    windows, size = call.output.shape[dim], call.output.shape[-1]
    shape[dim] = call.fixed(windows, "positions of a sliding window")
    return [(*shape, call.fixed(size, "positions inside a window"))]


register("aten.unfold", Operator(axes=_unfold_axes, zero=passes_on, aliases=True, moves=True))
