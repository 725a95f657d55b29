"""Operators that write into part of a tensor: by index, by mask, by slice."""

from __future__ import annotations

from collections.abc import Callable

from autoprune.ir.axes import ONE, Axis
from autoprune.ir.contraction import Term
from autoprune.ir.graph import Value
from autoprune.ops.indexing import indexed_dims
from autoprune.ops.pinning import line_up, pin_dims, pin_tensors
from autoprune.ops.rule import Operator, Terms, carried, joined, no_resize, of_first, register
from autoprune.ops.slicing import slice_bounds
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_REASON = "written to by index"


def _register(
    names: str,
    axes: Callable[[Typing], list[Shape]],
    zero: Callable[[Zeroing], State],
    resize: Callable[[Sizing], Resized] = no_resize,
) -> None:
    register(names, Operator(axes=axes, zero=zero, resize=resize, homogeneous=_terms))


def _written(call: Call) -> tuple[Value | None, ...]:
    """The tensors whose elements are written."""
    return tuple(call.value(name) for name in ("src", "source", "values", "value"))


def _written_state(call: Zeroing) -> State:
    """What was there, joined with what is written, tensor or number."""
    written = [v for v in _written(call) if v is not None]
    if not written and call.get("value") is not None:
        return max(call.state(call.tensor("input")), call.state(call.get("value")))
    return joined(call, [call.tensor("input"), *written])


def _terms(call: Call) -> Terms:
    """What was there, and what is written or added; other reductions multiply or compare."""
    if call.get("reduce") is not None:
        return ()
    value = call.get("value")
    written: list[Term] = [{v: 1.0} for v in _written(call) if v is not None]
    number: list[Term] = [{"value": 1.0}] if isinstance(value, int | float) else []
    return (*of_first(call), *written, *number)


def _along_dim(call: Typing) -> list[Shape]:
    """Dimensions other than `dim` line up, where the written part is as long as the whole."""
    target = call.axes_of("input")
    dim = call.integer("dim") % max(len(target), 1)
    for value in call.tensors[1:]:
        if len(value.shape) == len(target):
            line_up(call, target, call.axes_of(value), (dim,), _REASON)
        else:
            pin_tensors(call, _REASON, value)
    pin_dims(call, target[dim : dim + 1], range(min(len(target), 1)), _REASON)
    return [call.axes_of("input")]


_register(
    "aten.scatter aten.scatter_add aten.scatter_reduce aten.index_add aten.index_copy "
    "aten.index_fill aten.index_reduce",
    _along_dim,
    _written_state,
)


def _index_put_axes(call: Typing) -> list[Shape]:
    """`x[:, i, j] = values`: the values are broadcast to what the indices select.

    A mask under which one number is written leaves every element where it is.
    """
    target, values = call.axes_of("input"), call.tensor("values")
    indexed, selected = indexed_dims(call)
    if _masks(call):
        mask = selected[0]
        for i, axis in zip(indexed, call.axes_of(mask), strict=True):
            call.same(target[i], axis)
        return [call.axes_of("input")]
    for value in selected:
        pin_tensors(call, _REASON, value)
    pin_dims(call, target, indexed, _REASON)
    count = max(1 if v.dtype == "bool" else len(v.shape) for v in selected)
    rest: list[Axis | None] = [a for i, a in enumerate(target) if i not in indexed]
    adjacent = indexed[-1] - indexed[0] == len(indexed) - 1
    first = indexed[0] if adjacent else 0
    places = [*rest[:first], *(None,) * count, *rest[first:]]
    given = call.axes_of(values)
    for axis, place in zip(reversed(given), reversed(places), strict=False):
        if place is None:
            call.pin(axis, _REASON)
        elif axis != ONE:
            call.same(axis, place)
    return [call.axes_of("input")]


def _masks(call: Call) -> bool:
    """Whether one number is written where a single mask says so."""
    tensors = [v for v in call.node.inputs if v.dtype == "bool"]
    indices = call.get("indices")
    entries = indices if isinstance(indices, tuple) else (indices,)
    lone = sum(entry is not None for entry in entries) == 1
    return lone and len(tensors) == 1 and not any(n != 1 for n in call.tensor("values").shape)


def _index_put_state(call: Zeroing) -> State:
    state = joined(call, [call.tensor("input"), call.tensor("values")])
    if state is State.ZERO or not _masks(call):
        return state
    mask = next(v for v in call.node.inputs if v.dtype == "bool")
    return max(state, call.state(mask)) if call.carries(mask) else state


_register("aten.index_put", _index_put_axes, _index_put_state)


def _slice_scatter_axes(call: Typing) -> list[Shape]:
    """`x[a:b] = src` looks inside the axis as before + piece + after."""
    target, src = call.axes_of("input"), call.axes_of("src")
    dim = call.integer("dim", 0) % len(target)
    axis = target[dim]
    start, end = slice_bounds(call, axis.size)
    if call.integer("step", 1) != 1:
        pin_dims(call, (axis, src[dim]), (0, 1), "written to with a step")
    else:
        sizes = (start, end - start, axis.size - end)
        call.same(call.axes.pieces(axis, sizes)[1], src[dim])
    call.align((*target[:dim], *target[dim + 1 :]), (*src[:dim], *src[dim + 1 :]))
    return [call.axes_of("input")]


def _slice_scatter_resize(call: Sizing) -> Resized:
    dim = call.integer("dim", 0) % len(call.tensors[0].shape)
    axis = call.axes_of("input")[dim]
    if call.size(axis) == axis.size:
        return Resized()
    start, _ = slice_bounds(call, axis.size)
    first = call.before(axis, start)
    return Resized({"start": first, "end": first + call.size(call.axes_of("src")[dim])})


def _select_scatter_axes(call: Typing) -> list[Shape]:
    target, src = call.axes_of("input"), call.axes_of("src")
    dim = call.integer("dim") % len(target)
    index = call.integer("index") % target[dim].size
    if not call.is_fixed(target[dim]):
        call.axes.pieces(target[dim], (index, 1, target[dim].size - index - 1))
    call.align((*target[:dim], *target[dim + 1 :]), src)
    return [call.axes_of("input")]


def _select_scatter_resize(call: Sizing) -> Resized:
    target = call.axes_of("input")
    axis = target[call.integer("dim") % len(target)]
    if call.size(axis) == axis.size:
        return Resized()
    return Resized({"index": call.before(axis, call.integer("index") % axis.size)})


def _part_state(call: Zeroing) -> State:
    return carried(call, [call.tensor("input"), call.tensor("src")])


_register("aten.slice_scatter", _slice_scatter_axes, _part_state, _slice_scatter_resize)
_register("aten.select_scatter", _select_scatter_axes, _part_state, _select_scatter_resize)
