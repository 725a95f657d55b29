"""Operators that read the same numbers under other axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autoprune.ir import axes as ax
from autoprune.ir.axes import ONE, Axis
from autoprune.ops.pinning import fixed_shape, pin_dims
from autoprune.ops.rule import Operator, first_state, of_first, passes_on, register
from autoprune.ops.views import Resized, Shape, Sizing, Typing


def reshaped(call: Typing, source: Sequence[Axis], sizes: Sequence[int]) -> Shape:
    """The axes of a row-major reshape of `source` to `sizes`.

    Runs of axes with equal products are matched, so that untouched axes stay themselves:
    `(n, 768) -> (n, 12, 64)` only looks inside the 768.
    """
    result: list[Axis] = []
    todo = [axis for axis in source if axis.size != 1]
    wanted = [n for n in sizes if n != 1]
    i = j = 0
    while i < len(todo) and j < len(wanted):
        left, right = [todo[i]], [wanted[j]]
        a, b = todo[i].size, wanted[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b and i < len(todo):
                left.append(todo[i])
                a *= todo[i].size
                i += 1
            elif b < a and j < len(wanted):
                right.append(wanted[j])
                b *= wanted[j]
                j += 1
            else:
                break
        if len(right) == 1:
            result.append(ax.prod(*left))
        else:
            result.extend(call.axes.factor(ax.prod(*left), right))
    parts = iter(result)
    return tuple(ONE if n == 1 else next(parts) for n in sizes)


def _reshape_axes(call: Typing) -> list[Shape]:
    return [_read_as(call, call.axes_of(call.tensors[0]), call.output.shape)]


def _each_reshape_axes(call: Typing) -> list[Shape]:
    """Several tensors, each of which becomes one."""
    pairs = zip(call.tensors, call.node.outputs, strict=True)
    return [_read_as(call, call.axes_of(v), output.shape) for v, output in pairs]


def _read_as(call: Typing, source: Shape, sizes: Sequence[int]) -> Shape:
    if 0 in sizes:
        pin_dims(call, source, range(len(source)), "an empty tensor")
        return fixed_shape(call, sizes, "an empty tensor")
    return reshaped(call, source, sizes)


def shape_resize(call: Sizing) -> Resized:
    """The sizes that a call states, after the cut."""
    for name in ("shape", "size"):
        if name in call.node.arguments:
            return Resized({name: call.resized(name, call.axes_of(call.output))})
    return Resized()


def _unflatten_resize(call: Sizing) -> Resized:
    dim = call.integer("dim") % len(call.tensors[0].shape)
    count = len(call.integers("sizes"))
    return Resized({"sizes": call.resized("sizes", call.axes_of(call.output)[dim : dim + count])})


_RESHAPE = Operator(axes=_reshape_axes, zero=passes_on, aliases=True, reshapes=True)
register("aten.view.default aten.reshape aten._unsafe_view", replace(_RESHAPE, resize=shape_resize))
register(
    "aten.flatten aten.ravel aten.unsqueeze aten.atleast_1d aten.atleast_2d aten.atleast_3d",
    _RESHAPE,
)
register(
    "aten.atleast_1d.Sequence aten.atleast_2d.Sequence aten.atleast_3d.Sequence",
    replace(_RESHAPE, axes=_each_reshape_axes),
)


def _reshape_as_axes(call: Typing) -> list[Shape]:
    (shape,) = _reshape_axes(call)
    return [tuple(call.same(a, b) for a, b in zip(shape, call.axes_of("other"), strict=True))]


def _squeeze_resize(call: Sizing) -> Resized:
    """An axis that the cut leaves at size one is not one that was to be squeezed."""
    axes = call.axes_of(call.tensors[0])
    if all(axis.size == 1 or call.size(axis) > 1 for axis in axes):
        return Resized()
    named = call.integers("dim", tuple(range(len(axes))))
    dims = tuple(d for d in named if axes[d].size == 1)
    return Resized({"dim": dims}, op="aten.squeeze.dims")


register("aten.squeeze", replace(_RESHAPE, resize=_squeeze_resize))
register(
    "aten.view_as aten.reshape_as",
    replace(_RESHAPE, axes=_reshape_as_axes, zero=first_state, homogeneous=of_first),
)
register("aten.unflatten", replace(_RESHAPE, resize=_unflatten_resize))


def _retyped_axes(call: Typing) -> list[Shape]:
    """The bytes of the last axis are read anew where the types differ in width."""
    shape, output = call.axes_of(call.tensors[0]), call.output
    if output.shape == call.tensors[0].shape:
        return [shape]
    call.pin(shape[-1], "its bytes are read as another type")
    return [(*shape[:-1], call.fixed(output.shape[-1], "bytes read as another type"))]


register("aten.view.dtype", Operator(axes=_retyped_axes, zero=passes_on, aliases=True))
