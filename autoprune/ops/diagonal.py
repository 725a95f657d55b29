"""Diagonals: read from matrices, and matrices made of them."""

from __future__ import annotations

from autoprune.ops.pinning import fixed_shape, pin_dims
from autoprune.ops.rule import Operator, first_state, of_first, register
from autoprune.ops.views import Shape, Typing

_REASON = "a diagonal is taken"


def _diagonal_axes(call: Typing) -> list[Shape]:
    """Two dimensions become one, which comes last."""
    shape = call.axes_of(call.tensors[0])
    first, second = (-2, -1) if "linalg" in call.node.op else (0, 1)
    dims = {call.integer("dim1", first) % len(shape), call.integer("dim2", second) % len(shape)}
    pin_dims(call, shape, dims, _REASON)
    rest = tuple(axis for i, axis in enumerate(shape) if i not in dims)
    return [(*rest, *fixed_shape(call, call.output.shape[len(rest) :], _REASON))]


register(
    "aten.diagonal aten.linalg_diagonal",
    Operator(axes=_diagonal_axes, zero=first_state, aliases=True, moves=True),
)
register("aten.trace", Operator(axes=_diagonal_axes, zero=first_state, homogeneous=of_first))


def _diag_axes(call: Typing) -> list[Shape]:
    """`n -> n n` or, of a matrix, its diagonal."""
    return _diagonal_axes(call) if len(call.tensors[0].shape) == 2 else _embedded_axes(call)


def _embedded_axes(call: Typing) -> list[Shape]:
    """`... n -> ... n n`: row and column of a unit go together; beside a diagonal they do not."""
    *batch, axis = call.axes_of("input")
    ends = call.integer("dim1", -2), call.integer("dim2", -1)
    rank = len(call.output.shape)
    offset = call.integer("offset", call.integer("diagonal", 0))
    if offset == 0 and {d % rank for d in ends} == {rank - 2, rank - 1}:
        return [(*batch, axis, axis)]
    pin_dims(call, call.axes_of("input"), range(len(batch) + 1), _REASON)
    return [fixed_shape(call, call.output.shape, _REASON)]


register("aten.diag", Operator(axes=_diag_axes, zero=first_state, homogeneous=of_first))
register("aten.diag_embed", Operator(axes=_embedded_axes, zero=first_state, homogeneous=of_first))
