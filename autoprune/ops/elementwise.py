"""Elementwise operators with broadcasting: axes align from the right, sizes of one stretch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from autoprune.ir.axes import ONE, Axis
from autoprune.ir.contraction import Term
from autoprune.ir.graph import Value
from autoprune.ir.group import Guarantee
from autoprune.ops.rule import (
    Operator,
    Terms,
    first_state,
    is_number,
    joined,
    of_first,
    product,
    register,
)
from autoprune.ops.views import Call, Shape, State, Typing, Zeroing


def broadcast(call: Typing, shapes: Sequence[Shape]) -> Shape:
    """The axes of the broadcast of `shapes`, which are made the same where they meet."""
    if len(shapes) == 1:
        return shapes[0]
    rank = max((len(s) for s in shapes), default=0)
    result: list[Axis] = [ONE] * rank
    for shape in shapes:
        for i, axis in enumerate(shape, rank - len(shape)):
            if axis.size != 1:
                result[i] = axis if result[i].size == 1 else call.same(result[i], axis)
    return tuple(result)


def elementwise_axes(call: Typing) -> list[Shape]:
    """All tensor arguments broadcast together; every output has the broadcast shape."""
    shape = broadcast(call, [call.axes_of(v) for v in call.tensors])
    return [shape for _ in call.node.outputs]


def elementwise(
    names: str,
    zero: Callable[[Zeroing], State],
    homogeneous: Callable[[Call], Terms] | None = None,
    **traits: Any,
) -> None:
    """Register operators that work on each element alone."""
    operator = Operator(axes=elementwise_axes, zero=zero, uniform=True, homogeneous=homogeneous)
    register(names, replace(operator, **traits))


def _power(exponent: float) -> Callable[[Call], Terms]:
    """f(c x) = c**exponent f(x) for c > 0."""
    return lambda call: ({call.tensors[0]: exponent},)


def narrows(call: Call) -> bool:
    """Whether a conversion rounds, so that different numbers become the same."""
    source, result = call.tensors[0].dtype, call.output.dtype
    return is_number(call.tensors[0]) and (
        not is_number(call.output) or _bits(result) < _bits(source)
    )


def _bits(dtype: str) -> int:
    return int(dtype.lstrip("abcdefghijklmnopqrstuvwxyz").split("_")[0] or 0)


def same_numbers(call: Call) -> bool:
    """Whether a conversion only rounds, if anything: its input is of real numbers, too."""
    kinds = {
        v.dtype.strip("0123456789").removeprefix("b") for v in (*call.tensors[:1], call.output)
    }
    return kinds == {"float"} or call.tensors[0].dtype == call.output.dtype


def makes_constant(call: Zeroing) -> State:
    """f(0) is some finite constant."""
    return max(first_state(call), State.UNIFORM)


def undefined_at_zero(call: Zeroing) -> State:
    """f(0) is infinite or not a number."""
    return State.UNDEFINED if first_state(call) is State.ZERO else first_state(call)


elementwise(
    "aten.relu aten.leaky_relu aten.rrelu aten.abs aten.absolute aten.neg aten.negative "
    "aten.deg2rad aten.rad2deg",
    first_state,
    of_first,
)
elementwise("aten.sqrt", first_state, _power(0.5))
elementwise("aten.square", first_state, _power(2.0))
elementwise("aten.sign aten.sgn", first_state, _power(0.0), saturates=True)
elementwise(
    "aten.relu6 aten.tanh aten.erf aten.special_erf aten.atan aten.arctan aten.softsign "
    "aten.floor aten.ceil aten.round aten.special_round aten.trunc aten.fix",
    first_state,
    saturates=True,
)
elementwise(
    "aten.gelu aten.silu aten.mish aten.hardswish aten.elu aten.selu aten.celu aten.sin aten.tan "
    "aten.asin aten.sinh aten.asinh aten.atanh aten.expm1 aten.log1p aten.erfinv aten.frac "
    "aten.hardshrink aten.softshrink aten.tanhshrink aten.nan_to_num aten.arcsin aten.arcsinh "
    "aten.arctanh aten.frexp aten.special_expm1 aten.special_log1p aten.special_erfinv "
    "aten.special_entr aten.special_i1 aten.special_i1e aten.special_bessel_j1 "
    "aten.special_modified_bessel_i1",
    first_state,
)
elementwise("aten.clone aten.lift_fresh_copy", first_state, moves=True)
elementwise("aten._to_copy", first_state, moves=same_numbers)
# These return their input itself where there is nothing to do.
register(
    "aten.alias aten.detach aten.data aten.positive aten.contiguous aten.lift_fresh aten.cpu "
    "aten.cuda",
    Operator(axes=elementwise_axes, zero=first_state, aliases=True, reshapes=True),
)
register(
    "aten.float aten.chalf aten.real",
    Operator(axes=elementwise_axes, zero=first_state, aliases=True, moves=same_numbers),
)


def _first_axes(call: Typing) -> list[Shape]:
    return [call.axes_of(call.tensors[0])]


def _converted(call: Call) -> Terms:
    return of_first(call) if same_numbers(call) else ()


# Of a second tensor only the type counts.
register(
    "aten.to aten.type_as",
    Operator(
        axes=_first_axes, zero=first_state, aliases=True, moves=same_numbers, homogeneous=_converted
    ),
)


def drawn(call: Zeroing) -> None:
    """Report that what is drawn for the kept units depends on how many units there are."""
    call.report(Guarantee.APPROXIMATE, "random numbers are drawn for it")


def _drops(call: Call) -> bool:
    return call.get("train") is True


def _keeps(call: Call) -> bool:
    return not _drops(call)


def _dropout(call: Zeroing) -> State:
    if _drops(call):
        drawn(call)
    return first_state(call)


def _bernoulli(call: Zeroing) -> State:
    drawn(call)
    return first_state(call)


register(
    "aten.dropout aten.feature_dropout aten.alpha_dropout aten.feature_alpha_dropout",
    Operator(axes=elementwise_axes, zero=_dropout, aliases=True, moves=_keeps, draws=_drops),
)
elementwise("aten.native_dropout", _dropout, moves=_keeps, draws=_drops)
elementwise("aten.bernoulli", _bernoulli, draws=True)
elementwise(
    "aten.native_dropout_backward",
    lambda call: product(call.state(call.tensor(name)) for name in ("grad_output", "mask")),
)
elementwise(
    "aten.sigmoid aten.hardsigmoid aten.special_expit aten.erfc aten.special_erfc "
    "aten.special_ndtr aten.logical_not aten.isnan aten.isinf aten.isfinite aten.isposinf "
    "aten.isneginf aten.isreal",
    makes_constant,
    saturates=True,
)
elementwise(
    "aten.exp aten.exp2 aten.cos aten.cosh aten.acos aten.softplus aten.log_sigmoid "
    "aten.bitwise_not aten.arccos aten.sinc aten.i0 aten.special_exp2 aten.special_erfcx "
    "aten.special_sinc aten.special_i0 aten.special_i0e aten.special_log_ndtr "
    "aten.special_airy_ai aten.special_bessel_j0 aten.special_modified_bessel_i0 "
    "aten.special_spherical_bessel_j0",
    makes_constant,
)
# Zero has a sign, that of what it was made of.
elementwise("aten.signbit", lambda call: State.ANY)
elementwise("aten.rsqrt", undefined_at_zero, _power(-0.5))
elementwise("aten.reciprocal", undefined_at_zero, _power(-1.0))
elementwise(
    "aten.log aten.log2 aten.log10 aten.digamma aten.lgamma "
    "aten.acosh aten.arccosh aten.polygamma aten.mvlgamma aten.special_digamma aten.special_psi "
    "aten.special_gammaln aten.special_ndtri aten.special_polygamma aten.special_multigammaln "
    "aten.special_bessel_y0 aten.special_bessel_y1 aten.special_modified_bessel_k0 "
    "aten.special_modified_bessel_k1 aten.special_scaled_modified_bessel_k0 "
    "aten.special_scaled_modified_bessel_k1",
    undefined_at_zero,
)


def _clamp(call: Zeroing) -> State:
    low, high = (
        call.get("min", call.get("min_val", float("-inf"))),
        call.get("max", call.get("max_val", float("inf"))),
    )
    if isinstance(low, Value) or isinstance(high, Value):
        return joined(call, [a for a in (call.tensors[0], low, high) if isinstance(a, Value)])
    holds = isinstance(low, int | float) and isinstance(high, int | float) and low <= 0 <= high
    return first_state(call) if holds else makes_constant(call)


def _threshold(call: Zeroing) -> State:
    limit = call.get("threshold")
    stays = isinstance(limit, int | float) and limit < 0
    return first_state(call) if stays or call.get("value") == 0 else makes_constant(call)


def _pow(call: Zeroing) -> State:
    base, exponent = call.get("input"), call.get("exponent")
    if not isinstance(base, Value):
        return max(call.state(exponent), State.CONSTANT)
    if isinstance(exponent, int | float):
        if exponent > 0:
            return call.state(base)
        return undefined_at_zero(call) if exponent < 0 else State.CONSTANT
    if call.state(exponent) is State.ZERO:
        return State.CONSTANT
    return max(undefined_at_zero(call), call.state(exponent))


def _clamped(call: Call) -> Terms:
    """Limits of zero, and infinite ones, are multiplied with what they limit."""
    limits = [call.get(name) for name in ("min", "max", "min_val", "max_val")]
    finite = [v for v in limits if isinstance(v, Value) or v not in (None, 0, -inf, inf)]
    bounds: list[Term] = [{v: 1.0} if isinstance(v, Value) else {} for v in finite]
    return (*of_first(call), *bounds)


def _past_zero(call: Call) -> Terms:
    return of_first(call) if call.get("threshold") == call.get("value") == 0 else ()


def _raised(call: Call) -> Terms:
    base, exponent = call.get("input"), call.get("exponent")
    if isinstance(base, Value) and isinstance(exponent, int | float):
        return ({base: float(exponent)},)
    return ()


elementwise(
    "aten.clamp aten.clip aten.clamp_min aten.clamp_max aten.hardtanh",
    _clamp,
    _clamped,
    saturates=True,
)
elementwise("aten.threshold", _threshold, _past_zero)
elementwise("aten.pow aten.float_power", _pow, _raised)


def _logit(call: Zeroing) -> State:
    """The logarithm of 0 / 1, unless it is kept away from 0."""
    return undefined_at_zero(call) if call.get("eps") is None else makes_constant(call)


elementwise("aten.logit aten.special_logit", _logit)


def _prelu_axes(call: Typing) -> list[Shape]:
    """The slope has one entry per channel (dimension 1) or one in all."""
    shape = call.axes_of("input")
    slope = call.axes_of("weight")
    if slope and slope[0].size != 1 and len(shape) > 1:
        call.same(shape[1], slope[0])
    return [shape]


register("aten.prelu", Operator(axes=_prelu_axes, zero=first_state, homogeneous=of_first))
elementwise("aten._prelu_kernel", first_state, of_first)


def _glu_axes(call: Typing) -> list[Shape]:
    """Halves of one axis are multiplied with each other: `[c + c] -> c`."""
    shape = list(call.axes_of("input"))
    dim = call.integer("dim", -1) % len(shape)
    half = shape[dim].size // 2
    first, second = call.axes.pieces(shape[dim], (half, half))
    shape[dim] = call.same(first, second)
    return [tuple(shape)]


register("aten.glu", Operator(axes=_glu_axes, zero=first_state))
