"""Gather and scatter by index, sequences reversed or written to, and OneHot."""

from __future__ import annotations

from itertools import pairwise

from autoprune.ir.axes import ONE
from autoprune.ir.contraction import Contraction, Dim
from autoprune.ir.graph import Value
from autoprune.ops.pinning import line_up, pin_tensors
from autoprune.ops.rule import Operator, any_state, first_state, product, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_REASON = "looked up by index"


def _run(call: Call, size: int) -> tuple[int, int] | None:
    """Start and end of the positions that are taken, if they are known and side by side."""
    index = call.get("index")
    if isinstance(index, Value):
        return None
    positions = [i % size for i in call.integers("index")]
    if not positions or any(b - a != 1 for a, b in pairwise(positions)):
        return None
    return positions[0], positions[-1] + 1


def _gather_axes(call: Typing) -> list[Shape]:
    """The axes of the index take the place of the indexed one; known runs are slices of it."""
    source = call.axes_of("input")
    dim = call.integer("dim") % len(source)
    axis, index = source[dim], call.get("index")
    run = _run(call, axis.size)
    if run is not None and not call.is_fixed(axis):
        start, end = run
        piece = call.axes.pieces(axis, (start, end - start, axis.size - end))[1]
        found: Shape = (piece,) if isinstance(index, tuple) else ()
    else:
        call.pin(axis, _REASON)
        if isinstance(index, Value):
            found = call.axes_of(index)
        elif isinstance(index, tuple):
            found = (call.fixed(len(index), _REASON),) if len(index) != 1 else (ONE,)
        else:
            found = ()
    return [(*source[:dim], *found, *source[dim + 1 :])]


def _gather_resize(call: Sizing) -> Resized:
    source = call.axes_of("input")
    dim = call.integer("dim") % len(source)
    axis = source[dim]
    run = _run(call, axis.size)
    if run is None or call.size(axis) == axis.size:
        return Resized()
    start = call.before(axis, run[0])
    if not isinstance(call.get("index"), tuple):
        return Resized({"index": start})
    length = call.size(call.axes_of(call.output)[dim])
    return Resized({"index": tuple(range(start, start + length))})


def _gather_product(call: Call) -> Contraction | None:
    """A one for each index, times the table, if the indices are computed."""
    source, index = call.tensor("input"), call.value("index")
    if index is None:
        return None
    dim = call.integer("dim") % len(source.shape)
    dims: list[Dim] = [(f"d{i}",) for i in range(len(source.shape))]
    places = tuple((f"n{i}",) for i in range(len(index.shape)))
    output = (*dims[:dim], *places, *dims[dim + 1 :])
    return Contraction(((index, places), (source, tuple(dims))), output, index=f"d{dim}")


register(
    "onnx.Gather",
    Operator(axes=_gather_axes, zero=first_state, resize=_gather_resize, product=_gather_product),
)


def _indexed(call: Typing, value: Value, count: int, first: int = 0) -> None:
    """Pin the dimensions that the entries of an index tensor name."""
    for axis in call.axes_of(value)[first : first + count]:
        call.pin(axis, _REASON)


def _gather_nd_axes(call: Typing) -> list[Shape]:
    """`b (i j) rest, b positions 2 -> b positions rest`: the index's last axis names places."""
    source, index = call.axes_of("input"), call.axes_of("index")
    batch, depth = call.integer("batch_dims", 0), index[-1].size
    call.pin(index[-1], _REASON)
    call.align(source[:batch], index[:batch])
    _indexed(call, call.tensor("input"), depth, batch)
    return [(*call.axes_of("index")[:-1], *source[batch + depth :])]


register("onnx.GatherND", Operator(axes=_gather_nd_axes, zero=first_state))


def _scatter_nd_axes(call: Typing) -> list[Shape]:
    """The updates have the axes of the index, and the axes that the index leaves whole.

    Adding zero to an element leaves it what it is; all else that is written counts.
    """
    index, depth = call.axes_of("index"), call.tensor("index").shape[-1]
    written = index[-1:] if call.get("reduction") == "add" else index
    for axis in written:
        call.pin(axis, _REASON)
    _indexed(call, call.tensor("input"), depth)
    whole = call.axes_of("input")[depth:]
    call.align((*index[:-1], *whole), call.axes_of("src"))
    return [call.axes_of("input")]


def _scattered(call: Zeroing) -> State:
    """Whatever zero is multiplied with, it stays zero."""
    target = call.tensor("input")
    states = (call.state(target), call.state(call.tensor("src")))
    if call.get("reduction") == "mul" and states[0] is State.ZERO and call.carries(target):
        return product(states)
    return max(states)


register("onnx.ScatterND", Operator(axes=_scatter_nd_axes, zero=_scattered))


def _scatter_elements_axes(call: Typing) -> list[Shape]:
    source, index, updates = (call.axes_of(n) for n in ("input", "index", "src"))
    call.align(index, updates)
    line_up(call, source, index, (call.integer("dim"),), _REASON)
    return [call.axes_of("input")]


register(
    "onnx.ScatterElements onnx.Scatter", Operator(axes=_scatter_elements_axes, zero=_scattered)
)


def _tensor_scatter_axes(call: Typing) -> list[Shape]:
    """Updates are written from a position on that each sequence of the batch has."""
    cache = call.axes_of("input")
    line_up(call, cache, call.axes_of("src"), (call.integer("dim", -2),), _REASON)
    if call.value("index") is not None:
        call.same(cache[0], call.axes_of("index")[0])
    return [call.axes_of("input")]


register("onnx.TensorScatter", Operator(axes=_tensor_scatter_axes, zero=_scattered))


def _reverse_axes(call: Typing) -> list[Shape]:
    shape = call.axes_of("input")
    call.pin(shape[call.integer("time")], "reversed along it")
    call.same(shape[call.integer("batch")], call.axes_of("lengths")[0])
    return [call.axes_of("input")]


register("onnx.ReverseSequence", Operator(axes=_reverse_axes, zero=first_state))


def _one_hot_axes(call: Typing) -> list[Shape]:
    index = list(call.axes_of("index"))
    pin_tensors(call, "a value for on and one for off", "values")
    dim = call.integer("dim") % (len(index) + 1)
    index.insert(dim, call.fixed(call.output.shape[dim], "one position for each class"))
    return [tuple(index)]


register("onnx.OneHot", Operator(axes=_one_hot_axes, zero=any_state))
