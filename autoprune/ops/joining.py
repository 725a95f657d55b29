"""Operators that join tensors along an axis."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.ir import axes as ax
from autoprune.ir.axes import ONE, Axis
from autoprune.ops.rule import Operator, passes_on, register
from autoprune.ops.views import Shape, Typing


def _joined_others(call: Typing, shapes: Sequence[Shape], dim: int) -> list[Axis]:
    """All axes but `dim` are the same in every operand."""
    result = list(shapes[0])
    for shape in shapes[1:]:
        for i, axis in enumerate(shape):
            if i != dim:
                result[i] = call.same(result[i], axis)
    return result


def _cat_axes(call: Typing) -> list[Shape]:
    rank = len(call.output.shape)
    shapes = [s for s in (call.axes_of(v) for v in call.tensors) if len(s) == rank]
    dim = call.integer("dim", 0) % rank
    return _joined(call, shapes, dim)


def _stack_axes(call: Typing) -> list[Shape]:
    shapes = [call.axes_of(v) for v in call.tensors]
    dim = call.integer("dim", 0) % (len(shapes[0]) + 1)
    result = _joined_others(call, shapes, -1)
    result.insert(dim, ax.singles(len(shapes)))
    return [tuple(result)]


register(
    "aten.cat aten.concat aten.concatenate", Operator(axes=_cat_axes, zero=passes_on, moves=True)
)
register("aten.stack", Operator(axes=_stack_axes, zero=passes_on, moves=True))


def _as_rank(shape: Shape, rank: int) -> Shape:
    """Axes as `atleast_2d` and `atleast_3d` place those of smaller tensors."""
    if rank == 3 and len(shape) in (1, 2):
        return (*_as_rank(shape, 2), ONE)
    return (ONE,) * (rank - len(shape)) + shape


def _hstack_axes(call: Typing) -> list[Shape]:
    """Joined along the second dimension, vectors along the first."""
    shapes = [_as_rank(call.axes_of(v), 1) for v in call.tensors]
    return _joined(call, shapes, 0 if len(shapes[0]) == 1 else 1)


def _vstack_axes(call: Typing) -> list[Shape]:
    return _joined(call, [_as_rank(call.axes_of(v), 2) for v in call.tensors], 0)


def _dstack_axes(call: Typing) -> list[Shape]:
    return _joined(call, [_as_rank(call.axes_of(v), 3) for v in call.tensors], 2)


def _column_stack_axes(call: Typing) -> list[Shape]:
    """Vectors are columns."""
    shapes = [call.axes_of(v) for v in call.tensors]
    return _joined(call, [s if len(s) > 1 else (*_as_rank(s, 1), ONE) for s in shapes], 1)


def _joined(call: Typing, shapes: Sequence[Shape], dim: int) -> list[Shape]:
    result = _joined_others(call, shapes, dim)
    result[dim] = ax.concat(*(shape[dim] for shape in shapes))
    return [tuple(result)]


for _names, _axes in (
    ("aten.hstack", _hstack_axes),
    ("aten.vstack aten.row_stack", _vstack_axes),
    ("aten.dstack", _dstack_axes),
    ("aten.column_stack", _column_stack_axes),
):
    register(_names, Operator(axes=_axes, zero=passes_on, moves=True))
