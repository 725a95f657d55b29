"""Reductions, softmax, cumulative and sorting operators."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from autoprune.ir.axes import ONE, Axis
from autoprune.ir.graph import Argument
from autoprune.ir.group import Guarantee
from autoprune.ops.elementwise import broadcast
from autoprune.ops.pinning import mixing, named_dims, one_dim, pin_dims
from autoprune.ops.rule import (
    Operator,
    Terms,
    first_state,
    joined_state,
    never_zero,
    of_each,
    of_first,
    product_state,
    register,
)
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing


def _dims(call: Call) -> tuple[int, ...]:
    """The reduced dimensions, all of them where none is named."""
    rank = len(call.tensors[0].shape)
    named = call.integers("dim") if call.get("dim") is not None else ()
    return tuple(sorted({d % rank for d in named})) if named else tuple(range(rank))


def _reduced(call: Typing, shape: Shape) -> Shape:
    dims = _dims(call)
    if call.get("keepdim") is True:
        return tuple(ONE if i in dims else axis for i, axis in enumerate(shape))
    return tuple(axis for i, axis in enumerate(shape) if i not in dims)


def _reduce_axes(call: Typing) -> list[Shape]:
    return [_reduced(call, call.axes_of(call.tensors[0]))] * len(call.node.outputs)


def _pinning_axes(call: Typing) -> list[Shape]:
    shape = call.axes_of(call.tensors[0])
    for dim in _dims(call):
        call.pin(shape[dim], "every position of it counts")
    return _reduce_axes(call)


def _over(call: Zeroing) -> bool:
    """Whether the leaf is reduced away here."""
    shape = call.axes_of(call.tensors[0])
    return any(call.within(shape[d]) for d in _dims(call))


def _sum_zero(call: Zeroing) -> State:
    if _over(call):
        call.summed([call.tensors[0]])
    return call.state(call.tensors[0])


def _mean_zero(call: Zeroing) -> State:
    state = call.state(call.tensors[0])
    if _over(call):
        if state is State.ZERO:
            call.report(Guarantee.COMPENSATED, "a mean over it is rescaled")
        else:
            call.report(Guarantee.APPROXIMATE, "a mean is taken over it")
    return state


def _partial_mean_zero(call: Zeroing) -> State:
    """How many numbers a mean is taken of depends on where there are some."""
    if _over(call):
        call.report(Guarantee.APPROXIMATE, "a mean is taken over it")
    return call.state(call.tensors[0])


def _mean_resize(call: Sizing) -> Resized:
    axes: list[Axis] = [call.axes_of(call.tensors[0])[d] for d in _dims(call)]
    return Resized(scale=prod(call.size(a) for a in axes) / prod(a.size for a in axes))


def _order(call: Call) -> Argument:
    return call.get("ord", call.get("p", 2))


def _norm_terms(call: Call) -> Terms:
    """Norms of order zero count."""
    return () if _order(call) == 0 else of_first(call)


def _norm_zero(call: Zeroing) -> State:
    order = _order(call)
    if _over(call):
        if isinstance(order, int | float) and order > 0:
            call.summed([call.tensors[0]])
        else:
            call.report(Guarantee.APPROXIMATE, "a norm is taken over it")
    return call.state(call.tensors[0])


def _variance_zero(call: Zeroing) -> State:
    if _over(call):
        call.report(Guarantee.APPROXIMATE, "mean and variance are taken over it")
    return call.state(call.tensors[0])


def _summed_away(call: Call) -> tuple[int, ...]:
    """The dimensions that `sum_to_size` sums: leading ones, and those that become one."""
    source, size = call.tensors[0].shape, call.output.shape
    first = len(source) - len(size)
    return tuple(i for i, n in enumerate(source) if i < first or n != size[i - first])


def _sum_to_size_axes(call: Typing) -> list[Shape]:
    shape, dims = call.axes_of(call.tensors[0]), _summed_away(call)
    first = len(shape) - len(call.output.shape)
    return [tuple(ONE if i in dims else a for i, a in enumerate(shape) if i >= first)]


def _sum_to_size_zero(call: Zeroing) -> State:
    shape = call.axes_of(call.tensors[0])
    if any(call.within(shape[d]) for d in _summed_away(call)):
        call.summed([call.tensors[0]])
    return call.state(call.tensors[0])


register(
    "aten.sum_to_size",
    Operator(
        axes=_sum_to_size_axes,
        zero=_sum_to_size_zero,
        resize=lambda call: Resized({"size": call.resized("size", call.axes_of(call.output))}),
        homogeneous=of_first,
    ),
)

_SUM = Operator(axes=_reduce_axes, zero=_sum_zero, homogeneous=of_first)
_OF_ALL = Operator(axes=_pinning_axes, zero=first_state)
_CHOICE = replace(_OF_ALL, zero=never_zero, saturates=True)
for _names, _operator in (
    ("aten.sum aten.nansum", _SUM),
    ("aten.mean", replace(_SUM, zero=_mean_zero, resize=_mean_resize)),
    ("aten.nanmean", replace(_SUM, zero=_partial_mean_zero)),
    (
        "aten.linalg_vector_norm aten.norm aten.frobenius_norm",
        replace(_SUM, zero=_norm_zero, homogeneous=_norm_terms),
    ),
    ("aten.std", replace(_SUM, zero=_variance_zero)),
    ("aten.var aten.var_mean aten.std_mean", replace(_SUM, zero=_variance_zero, homogeneous=None)),
    (
        "aten.amax aten.amin aten.max aten.min aten.median aten.nanmedian aten.aminmax aten.mode "
        "aten.kthvalue",
        replace(_OF_ALL, homogeneous=of_first),
    ),
    ("aten.prod", _OF_ALL),
    ("aten.any", replace(_OF_ALL, saturates=True)),
    ("aten.argmax aten.argmin aten.all aten.count_nonzero", _CHOICE),
    ("aten.logsumexp aten.special_logsumexp", replace(_CHOICE, saturates=False)),
):
    register(_names, _operator)


register(
    "aten.softmax aten._softmax aten._safe_softmax aten.log_softmax aten._log_softmax "
    "aten.special_softmax aten.special_log_softmax",
    mixing(one_dim, "softmax over it", never_zero, saturates=True),
)


def _softmax_backward_axes(call: Typing) -> list[Shape]:
    shape = broadcast(call, [call.axes_of(v) for v in call.tensors])
    call.pin(shape[call.integer("dim", -1)], "softmax over it")
    return [shape]


register(
    "aten._softmax_backward_data",
    Operator(axes=_softmax_backward_axes, zero=product_state),
)
register(
    "aten.cumsum aten.cummax aten.cummin",
    mixing(one_dim, "accumulated along it", first_state, homogeneous=of_first),
)
register("aten.cumprod", mixing(one_dim, "accumulated along it", first_state))
register("aten.logcumsumexp", mixing(one_dim, "accumulated along it", never_zero))
register("aten.sort", mixing(one_dim, "sorted along it", never_zero, homogeneous=of_first))
register("aten.argsort", mixing(one_dim, "sorted along it", never_zero, saturates=True))
register(
    "aten.msort", mixing(lambda call: (0,), "sorted along it", first_state, homogeneous=of_first)
)
register(
    "aten.topk",
    mixing(
        one_dim, "the largest of it are taken", never_zero, "the largest of an axis",
        homogeneous=of_first, saturates=True,
    ),
)  # fmt: skip
register(
    "aten.tril aten.triu",
    mixing(
        lambda call: (-2, -1), "a triangle of positions is kept", first_state, homogeneous=of_first
    ),
)
register("aten.gradient", mixing(named_dims, "differences of neighbours", first_state))


def _diff_axes(call: Typing) -> list[Shape]:
    """Differences of neighbours, of the tensor and what is joined to its ends."""
    shapes = [call.axes_of(v) for v in call.tensors]
    dim = call.integer("dim", -1) % len(shapes[0])
    for shape in shapes:
        call.pin(shape[dim], "differences of neighbours")
        for i, (a, b) in enumerate(zip(shapes[0], shape, strict=True)):
            if i != dim:
                call.same(a, b)
    fixed = call.fixed(call.output.shape[dim], "differences of neighbours")
    return [(*shapes[0][:dim], fixed, *shapes[0][dim + 1 :])]


register("aten.diff", Operator(axes=_diff_axes, zero=joined_state, homogeneous=of_each))


def _trapezoid_axes(call: Typing) -> list[Shape]:
    shape = call.axes_of("y")
    dim = call.integer("dim", -1) % len(shape)
    points = call.value("x")
    if points is not None and len(points.shape) > 1:
        shape = broadcast(call, [shape, call.axes_of(points)])
    elif points is not None:
        pin_dims(call, call.axes_of(points), (0,), "points to integrate at")
    call.pin(shape[dim], "integrated along it")
    if "cumulative" in call.node.op:
        fixed = call.fixed(call.output.shape[dim], "integrals along an axis")
        return [(*shape[:dim], fixed, *shape[dim + 1 :])]
    return [(*shape[:dim], *shape[dim + 1 :])]


# Zero where what is integrated is, or where all points are one.
register(
    "aten.trapezoid aten.trapz aten.cumulative_trapezoid",
    Operator(axes=_trapezoid_axes, zero=product_state),
)


def _quantile_axes(call: Typing) -> list[Shape]:
    """One number for each of the shares `q`, which come first if there are several."""
    shape = call.axes_of("input")
    for dim in _dims(call):
        call.pin(shape[dim], "every position of it counts")
    shares = call.value("q")
    first = () if shares is None else call.axes_of(shares)
    for axis in first:
        call.pin(axis, "shares of a quantile")
    return [(*first, *_reduced(call, shape))]


register(
    "aten.quantile aten.nanquantile",
    Operator(axes=_quantile_axes, zero=first_state, homogeneous=of_first),
)


def _is_vector_norm(call: Call) -> bool:
    """With two dimensions named, or none of a matrix and an order given, it is a matrix's."""
    rank = len(call.tensors[0].shape)
    if call.get("dim") is None:
        return call.get("ord") is None or rank != 2
    return len(call.integers("dim")) == 1


def _linalg_norm_axes(call: Typing) -> list[Shape]:
    if not _is_vector_norm(call):
        shape = call.axes_of(call.tensors[0])
        for dim in _matrix_dims(call):
            call.pin(shape[dim], "a norm of a whole matrix")
        keeps = call.get("keepdim") is True
        dims = _matrix_dims(call)
        return [
            tuple(
                ONE if i in dims else axis for i, axis in enumerate(shape) if keeps or i not in dims
            )
        ]
    return _reduce_axes(call)


def _matrix_dims(call: Call) -> tuple[int, ...]:
    rank = len(call.tensors[0].shape)
    return tuple(d % rank for d in call.integers("dim", (-2, -1)))


def _linalg_norm_zero(call: Zeroing) -> State:
    return _norm_zero(call) if _is_vector_norm(call) else call.state(call.tensors[0])


register(
    "aten.linalg_norm aten.linalg_matrix_norm",
    Operator(axes=_linalg_norm_axes, zero=_linalg_norm_zero, homogeneous=_norm_terms),
)
