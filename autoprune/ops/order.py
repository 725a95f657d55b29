"""Operators that put axes, or positions along them, in another order."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.ops.pinning import mixing
from autoprune.ops.rule import Operator, of_first, passes_on, register
from autoprune.ops.views import Call, Shape, Typing


def _permuted(call: Typing, order: Sequence[int]) -> list[Shape]:
    source = call.axes_of(call.tensors[0])
    return [tuple(source[d % len(source)] for d in order)]


def _permute_axes(call: Typing) -> list[Shape]:
    return _permuted(call, call.integers("dims"))


def _transpose_axes(call: Typing) -> list[Shape]:
    rank = len(call.tensors[0].shape)
    a = call.integer("dim0", call.integer("axis0", 0)) % rank
    b = call.integer("dim1", call.integer("axis1", 1)) % rank
    order = list(range(rank))
    order[a], order[b] = b, a
    return _permuted(call, order)


def _reverse_axes(call: Typing) -> list[Shape]:
    return _permuted(call, tuple(reversed(range(len(call.tensors[0].shape)))))


def _matrix_transpose_axes(call: Typing) -> list[Shape]:
    rank = len(call.tensors[0].shape)
    return _permuted(call, [*range(rank - 2), rank - 1, rank - 2])


def _movedim_axes(call: Typing) -> list[Shape]:
    rank = len(call.tensors[0].shape)
    source = [d % rank for d in call.integers("source")]
    target = [d % rank for d in call.integers("destination")]
    order: list[int | None] = [None] * rank
    for s, t in zip(source, target, strict=True):
        order[t] = s
    rest = iter(d for d in range(rank) if d not in source)
    return _permuted(call, [next(rest) if d is None else d for d in order])


for _names, _axes in (
    ("aten.permute", _permute_axes),
    ("aten.transpose aten.swapaxes aten.swapdims", _transpose_axes),
    ("aten.t aten.numpy_T", _reverse_axes),
    ("aten.mT", _matrix_transpose_axes),
    ("aten.movedim aten.moveaxis", _movedim_axes),
):
    register(_names, Operator(axes=_axes, zero=passes_on, aliases=True, moves=True))
register(
    "aten.mH aten.adjoint aten.matrix_H",
    Operator(axes=_matrix_transpose_axes, zero=passes_on, aliases=True, homogeneous=of_first),
)


def _rolled_dims(call: Call) -> Sequence[int]:
    packet = call.node.op.split(".")[1]
    named = {"fliplr": (1,), "flipud": (0,)}.get(packet) or call.integers("dims")
    return named or range(len(call.tensors[0].shape))


register(
    "aten.roll aten.flip aten.fliplr aten.flipud",
    mixing(_rolled_dims, "positions are moved along the axis", passes_on, moves=True),
)


def _rot90_axes(call: Typing) -> list[Shape]:
    """A quarter turn swaps the two dimensions of the plane."""
    shape = call.axes_of(call.tensors[0])
    plane = call.integers("dims", (0, 1))
    for dim in plane:
        call.pin(shape[dim], "turned in a plane")
    order = list(range(len(shape)))
    if call.integer("k", 1) % 2:
        a, b = (d % len(shape) for d in plane)
        order[a], order[b] = b, a
    return [tuple(shape[d] for d in order)]


register("aten.rot90", Operator(axes=_rot90_axes, zero=passes_on, moves=True))
