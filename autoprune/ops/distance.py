"""Distances and similarities between vectors: sums over an axis, exact where both are zero."""

from __future__ import annotations

from autoprune.ir.axes import ONE
from autoprune.ir.group import Guarantee
from autoprune.ops.elementwise import broadcast
from autoprune.ops.rule import Cost, Operator, register
from autoprune.ops.views import Call, Shape, State, Typing, Zeroing


def _over(call: Zeroing, names: tuple[str, str], dim: int) -> None:
    """Report what reducing over dimension `dim` of both operands means."""
    values = [call.tensor(name) for name in names]
    if not any(call.carries(v, dim) for v in values):
        return
    if any(call.state(v) is not State.ZERO for v in values):
        call.report(Guarantee.APPROXIMATE, "a distance over it is not only of zeros")


def _cdist_axes(call: Typing) -> list[Shape]:
    """`... p m, ... r m -> ... p r`."""
    left, right = call.axes_of("x1"), call.axes_of("x2")
    call.same(left[-1], right[-1])
    return [(*broadcast(call, [left[:-2], right[:-2]]), left[-2], right[-2])]


def _cdist_zero(call: Zeroing) -> State:
    _over(call, ("x1", "x2"), -1)
    return State.ANY


def _cdist_cost(call: Call) -> Cost:
    return ((3, (*call.axes_of(call.output), call.axes_of("x1")[-1])),)


register("aten.cdist", Operator(axes=_cdist_axes, zero=_cdist_zero, cost=_cdist_cost))


def _similarity_axes(call: Typing) -> list[Shape]:
    shape = broadcast(call, [call.axes_of(v) for v in call.tensors])
    dim = call.integer("dim", 1) % len(shape)
    return [(*shape[:dim], *shape[dim + 1 :])]


def _similarity_zero(call: Zeroing) -> State:
    """Of two zero vectors the similarity is zero."""
    names = ("x1", "x2")
    rank = max(len(call.tensor(name).shape) for name in names)
    dim = call.integer("dim", 1) % rank
    _over(call, names, dim - rank)
    return max(call.state(call.tensor(name)) for name in names)


register("aten.cosine_similarity", Operator(axes=_similarity_axes, zero=_similarity_zero))


def _pairwise_axes(call: Typing) -> list[Shape]:
    shape = broadcast(call, [call.axes_of(v) for v in call.tensors])
    return [(*shape[:-1], ONE) if call.get("keepdim") is True else shape[:-1]]


def _pairwise_zero(call: Zeroing) -> State:
    if any(call.carries(v, -1) for v in call.tensors):
        call.report(Guarantee.APPROXIMATE, "a small number is added at every position of it")
    return State.ANY


register("aten.pairwise_distance", Operator(axes=_pairwise_axes, zero=_pairwise_zero))
