"""Elementwise operators with broadcasting: axes align from the right, sizes of one stretch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autoprune.ir.axes import ONE, Axis
from autoprune.ir.graph import Argument, Value
from autoprune.ir.group import Guarantee
from autoprune.ops.rule import Operator, Shape, State, Typing, Zeroing, joined, product, register


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


def _elementwise(names: str, zero: Callable[[Zeroing], State]) -> None:
    register(names, Operator(axes=elementwise_axes, zero=zero, uniform=True))


def _first(call: Zeroing) -> State:
    return call.state(call.tensors[0])


def keeps_zero(call: Zeroing) -> State:
    """f(0) = 0, and a constant stays a constant."""
    return _first(call)


def makes_constant(call: Zeroing) -> State:
    """f(0) is some finite constant."""
    return max(_first(call), State.UNIFORM)


def undefined_at_zero(call: Zeroing) -> State:
    """f(0) is infinite or not a number."""
    return State.UNDEFINED if _first(call) is State.ZERO else _first(call)


_elementwise(
    "aten.relu aten.relu6 aten.gelu aten.silu aten.mish aten.tanh aten.hardswish aten.leaky_relu "
    "aten.elu aten.selu aten.celu aten.rrelu aten.abs aten.neg aten.negative aten.sign aten.sgn "
    "aten.sqrt aten.square aten.sin aten.tan aten.asin aten.atan aten.sinh aten.asinh aten.atanh "
    "aten.expm1 aten.log1p aten.erf aten.erfinv aten.floor aten.ceil aten.round aten.trunc "
    "aten.fix aten.frac aten.hardshrink aten.softshrink aten.tanhshrink aten.softsign "
    "aten.nan_to_num aten.clone aten._to_copy aten.lift_fresh_copy aten.absolute aten.arcsin "
    "aten.arctan aten.arcsinh aten.arctanh aten.deg2rad aten.rad2deg aten.frexp aten.special_expm1 "
    "aten.special_log1p aten.special_erf aten.special_erfinv aten.special_entr aten.special_round "
    "aten.special_i1 aten.special_i1e aten.special_bessel_j1 aten.special_modified_bessel_i1",
    keeps_zero,
)
# These return their input itself where there is nothing to do.
register(
    "aten.alias aten.detach aten.data aten.positive aten.contiguous "
    "aten.float aten.chalf aten.lift_fresh aten.real aten.cpu aten.cuda",
    Operator(axes=elementwise_axes, zero=keeps_zero, aliases=True),
)


def _first_axes(call: Typing) -> list[Shape]:
    return [call.axes_of(call.tensors[0])]


# Of a second tensor only the type counts.
register("aten.to aten.type_as", Operator(axes=_first_axes, zero=keeps_zero, aliases=True))


def drawn(call: Zeroing) -> None:
    """Report that what is drawn for the kept units depends on how many units there are."""
    call.report(Guarantee.APPROXIMATE, "random numbers are drawn for it")


def _dropout(call: Zeroing) -> State:
    if call.get("train") is True:
        drawn(call)
    return _first(call)


def _bernoulli(call: Zeroing) -> State:
    drawn(call)
    return _first(call)


register(
    "aten.dropout aten.feature_dropout aten.alpha_dropout aten.feature_alpha_dropout",
    Operator(axes=elementwise_axes, zero=_dropout, aliases=True),
)
_elementwise("aten.native_dropout", _dropout)
_elementwise("aten.bernoulli", _bernoulli)
_elementwise(
    "aten.native_dropout_backward",
    lambda call: product(call.state(call.tensor(name)) for name in ("grad_output", "mask")),
)
_elementwise(
    "aten.sigmoid aten.exp aten.exp2 aten.cos aten.cosh aten.acos aten.softplus aten.hardsigmoid "
    "aten.log_sigmoid aten.logical_not aten.bitwise_not aten.erfc aten.isnan aten.isinf "
    "aten.isfinite aten.isposinf aten.isneginf aten.isreal aten.arccos aten.sinc "
    "aten.i0 aten.special_expit aten.special_exp2 aten.special_erfc aten.special_erfcx "
    "aten.special_sinc aten.special_i0 aten.special_i0e aten.special_ndtr aten.special_log_ndtr "
    "aten.special_airy_ai aten.special_bessel_j0 aten.special_modified_bessel_i0 "
    "aten.special_spherical_bessel_j0",
    makes_constant,
)
# Zero has a sign, that of what it was made of.
_elementwise("aten.signbit", lambda call: State.ANY)
_elementwise(
    "aten.rsqrt aten.reciprocal aten.log aten.log2 aten.log10 aten.digamma aten.lgamma "
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
    return keeps_zero(call) if holds else makes_constant(call)


def _threshold(call: Zeroing) -> State:
    limit = call.get("threshold")
    stays = isinstance(limit, int | float) and limit < 0
    return keeps_zero(call) if stays or call.get("value") == 0 else makes_constant(call)


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


_elementwise("aten.clamp aten.clip aten.clamp_min aten.clamp_max aten.hardtanh", _clamp)
_elementwise("aten.threshold", _threshold)
_elementwise("aten.pow aten.float_power", _pow)


def _logit(call: Zeroing) -> State:
    """The logarithm of 0 / 1, unless it is kept away from 0."""
    return undefined_at_zero(call) if call.get("eps") is None else makes_constant(call)


_elementwise("aten.logit aten.special_logit", _logit)


def _pair(call: Zeroing) -> tuple[Argument, Argument]:
    return call.get("input", call.get("self")), call.get("other", call.get("exponent"))


def _sum(call: Zeroing) -> State:
    return max(call.state(a) for a in _pair(call))


def _quotient(call: Zeroing) -> State:
    dividend, divisor = _pair(call)
    return _ratio(call.state(dividend), call.state(divisor))


def _ratio(dividend: State, divisor: State) -> State:
    return State.UNDEFINED if divisor is State.ZERO else product((dividend, divisor))


def _scaled(call: Zeroing) -> State:
    """Zero where the first operand is, whatever the second one."""
    first, second = _pair(call)
    state = call.state(first)
    return state if state is State.ZERO else max(state, call.state(second))


def _constant_pair(call: Zeroing) -> State:
    return max(State.CONSTANT, *(call.state(a) for a in _pair(call)))


_elementwise(
    "aten.mul aten.multiply aten.logical_and aten.bitwise_and aten.__and__ aten.lcm",
    lambda call: product(call.state(a) for a in _pair(call)),
)
_elementwise(
    "aten.add aten.sub aten.subtract aten.maximum aten.minimum aten.fmax aten.fmin "
    "aten.max.other aten.min.other aten.logical_or aten.logical_xor aten.bitwise_or "
    "aten.bitwise_xor aten.__or__ aten.__xor__ aten.hypot aten.gcd",
    _sum,
)
_elementwise("aten.rsub", _sum)
_elementwise(
    "aten.div aten.divide aten.true_divide aten.floor_divide aten.remainder aten.fmod", _quotient
)
_elementwise(
    "aten.eq aten.ne aten.lt aten.le aten.gt aten.ge aten.not_equal aten.less aten.less_equal "
    "aten.greater aten.greater_equal aten.isclose aten.logaddexp aten.logaddexp2 aten.nextafter",
    _constant_pair,
)


def _polynomial(call: Zeroing) -> State:
    """A polynomial of some degree, both of which may be tensors."""
    return max(State.UNIFORM, *(call.state(v) for v in call.tensors))


_POLYNOMIALS = (
    "chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w "
    "shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u shifted_chebyshev_polynomial_v "
    "shifted_chebyshev_polynomial_w hermite_polynomial_h hermite_polynomial_he "
    "laguerre_polynomial_l legendre_polynomial_p"
)
_elementwise(" ".join(f"aten.special_{name}" for name in _POLYNOMIALS.split()), _polynomial)


def _zeta(call: Zeroing) -> State:
    states = [call.state(v) for v in call.tensors]
    return State.UNDEFINED if State.ZERO in states else max(states)


_elementwise("aten.special_zeta", _zeta)


def _gamma_share(call: Zeroing) -> State:
    """Incomplete gamma functions, of which only that of two zeros is not defined."""
    states = [call.state(v) for v in call.tensors]
    return State.UNDEFINED if set(states) == {State.ZERO} else max(State.CONSTANT, *states)


_elementwise("aten.igamma aten.igammac aten.special_gammainc aten.special_gammaincc", _gamma_share)


def _signed(call: Zeroing) -> State:
    """What the sign of an operand decides, which zero has, too: that of what it was made of."""
    first, second = _pair(call)
    deciding = second if "copysign" in call.node.op else first
    if "copysign" in call.node.op and call.state(first) is State.ZERO:
        return State.ZERO
    return State.ANY if call.state(deciding) is State.ZERO else _constant_pair(call)


_elementwise("aten.copysign aten.atan2 aten.arctan2", _signed)
_elementwise(
    "aten.ldexp aten.bitwise_left_shift aten.bitwise_right_shift aten.__lshift__ "
    "aten.__rshift__ aten.special_xlog1py",
    _scaled,
)


def _xlogy(call: Zeroing) -> State:
    """`x * log(y)`, which is zero where x is, whatever y."""
    factor, argument = (call.state(a) for a in _pair(call))
    if factor is State.ZERO:
        return State.ZERO
    return State.UNDEFINED if argument is State.ZERO else max(factor, argument)


def _heaviside(call: Zeroing) -> State:
    """`values` where the input is zero."""
    return max(call.state(call.get("input")), call.state(call.get("values")))


_elementwise("aten.xlogy aten.special_xlogy", _xlogy)
_elementwise("aten.heaviside", _heaviside)
_elementwise(
    "aten.addcmul",
    lambda call: max(
        call.state(call.get("input")),
        product(call.state(call.get(name)) for name in ("tensor1", "tensor2")),
    ),
)
_elementwise(
    "aten.lerp", lambda call: max(call.state(call.get("input")), call.state(call.get("end")))
)
_elementwise(
    "aten.addcdiv",
    lambda call: max(
        call.state(call.get("input")),
        _ratio(call.state(call.get("tensor1")), call.state(call.get("tensor2"))),
    ),
)
_elementwise("aten.copy", lambda call: call.state(call.get("src")))
_elementwise("aten.fill", lambda call: call.state(call.get("value")))
_elementwise("aten.zero", lambda call: State.ZERO)


def _where(call: Zeroing) -> State:
    chosen = max(call.state(call.get("input")), call.state(call.get("other")))
    return chosen if chosen is State.ZERO else max(chosen, call.state(call.get("condition")))


def _masked_fill(call: Zeroing) -> State:
    filled = max(call.state(call.get("input")), call.state(call.get("value")))
    return filled if filled is State.ZERO else max(filled, call.state(call.get("mask")))


_elementwise("aten.where", _where)
_elementwise("aten.masked_fill", _masked_fill)


def _prelu_axes(call: Typing) -> list[Shape]:
    """The slope has one entry per channel (dimension 1) or one in all."""
    shape = call.axes_of("input")
    slope = call.axes_of("weight")
    if slope and slope[0].size != 1 and len(shape) > 1:
        call.same(shape[1], slope[0])
    return [shape]


register("aten.prelu", Operator(axes=_prelu_axes, zero=keeps_zero))
_elementwise("aten._prelu_kernel", keeps_zero)


def _glu_axes(call: Typing) -> list[Shape]:
    """Halves of one axis are multiplied with each other: `[c + c] -> c`."""
    shape = list(call.axes_of("input"))
    dim = call.integer("dim", -1) % len(shape)
    half = shape[dim].size // 2
    first, second = call.axes.pieces(shape[dim], (half, half))
    shape[dim] = call.same(first, second)
    return [tuple(shape)]


register("aten.glu", Operator(axes=_glu_axes, zero=keeps_zero))
