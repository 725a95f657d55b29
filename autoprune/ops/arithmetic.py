"""Elementwise operators of several operands: sums, products, quotients, comparisons, choices."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from autoprune.ir.contraction import Operand, Term
from autoprune.ir.graph import Argument, Value
from autoprune.ops.elementwise import elementwise
from autoprune.ops.rule import Terms, is_number, of_first, product
from autoprune.ops.views import Call, State, Zeroing


def _pair(call: Call) -> tuple[Argument, Argument]:
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


def _product(call: Zeroing) -> State:
    return product(call.state(a) for a in _pair(call))


def factors(*powers: tuple[Argument, str, float]) -> Term:
    """The product of arguments, each given with its name and its power."""
    term: dict[Operand, float] = {}
    for argument, name, power in powers:
        factor = argument if isinstance(argument, Value) else name
        term[factor] = term.get(factor, 0.0) + power
    return term


def _multiplied(call: Call) -> Terms:
    first, second = _pair(call)
    return (factors((first, "input", 1.0), (second, "other", 1.0)),)


def _added(call: Call) -> Terms:
    return tuple(factors((a, "other", 1.0)) for a in _pair(call))


def _compared(call: Call) -> Terms:
    """Zero stays zero."""
    return tuple(factors((a, "other", 1.0)) for a in _pair(call) if isinstance(a, Value) or a != 0)


def _divided(call: Call) -> Terms:
    if call.get("rounding_mode") is not None:
        return ()
    first, second = _pair(call)
    return (factors((first, "input", 1.0), (second, "other", -1.0)),)


elementwise("aten.mul aten.multiply", _product, _multiplied)
elementwise("aten.logical_and aten.bitwise_and aten.__and__ aten.lcm", _product)


def _shift(sign: int) -> Callable[[Call], float | None]:
    def shift(call: Call) -> float | None:
        first, second = _pair(call)
        times = call.get("alpha", 1)
        if not isinstance(second, int | float) or not isinstance(times, int | float):
            return None
        return sign * second * times if isinstance(first, Value) else None

    return shift


elementwise("aten.add", _sum, _added, shift=_shift(1))
elementwise("aten.sub aten.subtract", _sum, _added, shift=_shift(-1))
elementwise(
    "aten.rsub aten.maximum aten.minimum aten.fmax aten.fmin aten.max.other aten.min.other "
    "aten.hypot",
    _sum,
    _added,
)
elementwise(
    "aten.logical_or aten.logical_xor aten.bitwise_or aten.bitwise_xor aten.__or__ aten.__xor__ "
    "aten.gcd",
    _sum,
)
elementwise("aten.div aten.divide aten.true_divide", _quotient, _divided)
elementwise("aten.floor_divide", _quotient)
elementwise("aten.remainder aten.fmod", _quotient, _added)
elementwise(
    "aten.eq aten.ne aten.lt aten.le aten.gt aten.ge aten.not_equal aten.less aten.less_equal "
    "aten.greater aten.greater_equal",
    _constant_pair,
    _compared,
    saturates=True,
)
elementwise("aten.isclose", _constant_pair, saturates=True)
elementwise("aten.logaddexp aten.logaddexp2 aten.nextafter", _constant_pair)


def _polynomial(call: Zeroing) -> State:
    """A polynomial of some degree, both of which may be tensors."""
    return max(State.UNIFORM, *(call.state(v) for v in call.tensors))


_POLYNOMIALS = (
    "chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w "
    "shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u shifted_chebyshev_polynomial_v "
    "shifted_chebyshev_polynomial_w hermite_polynomial_h hermite_polynomial_he "
    "laguerre_polynomial_l legendre_polynomial_p"
)
elementwise(" ".join(f"aten.special_{name}" for name in _POLYNOMIALS.split()), _polynomial)


def _zeta(call: Zeroing) -> State:
    states = [call.state(v) for v in call.tensors]
    return State.UNDEFINED if State.ZERO in states else max(states)


elementwise("aten.special_zeta", _zeta)


def _gamma_share(call: Zeroing) -> State:
    """Incomplete gamma functions, of which only that of two zeros is not defined."""
    states = [call.state(v) for v in call.tensors]
    return State.UNDEFINED if set(states) == {State.ZERO} else max(State.CONSTANT, *states)


elementwise("aten.igamma aten.igammac aten.special_gammainc aten.special_gammaincc", _gamma_share)


def _signed(call: Zeroing) -> State:
    """What the sign of an operand decides, which zero has, too: that of what it was made of."""
    first, second = _pair(call)
    deciding = second if "copysign" in call.node.op else first
    if "copysign" in call.node.op and call.state(first) is State.ZERO:
        return State.ZERO
    return State.ANY if call.state(deciding) is State.ZERO else _constant_pair(call)


elementwise("aten.copysign aten.atan2 aten.arctan2", _signed)
elementwise(
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


elementwise("aten.xlogy aten.special_xlogy", _xlogy, of_first)
elementwise("aten.heaviside", _heaviside)


def _of_pair(call: Call, power: float) -> Term:
    """The first of two tensors times a power of the second."""
    return factors((call.get("tensor1"), "", 1.0), (call.get("tensor2"), "", power))


elementwise(
    "aten.addcmul",
    lambda call: max(
        call.state(call.get("input")),
        product(call.state(call.get(name)) for name in ("tensor1", "tensor2")),
    ),
    lambda call: (*of_first(call), _of_pair(call, 1.0)),
)
elementwise(
    "aten.lerp",
    lambda call: max(call.state(call.get("input")), call.state(call.get("end"))),
    lambda call: (*of_first(call), {call.tensor("end"): 1.0}),
)
elementwise(
    "aten.addcdiv",
    lambda call: max(
        call.state(call.get("input")),
        _ratio(call.state(call.get("tensor1")), call.state(call.get("tensor2"))),
    ),
    lambda call: (*of_first(call), _of_pair(call, -1.0)),
)
elementwise(
    "aten.copy",
    lambda call: call.state(call.get("src")),
    lambda call: ({call.tensor("src"): 1.0},) if is_number(call.tensor("src")) else (),
)
elementwise("aten.fill", lambda call: call.state(call.get("value")))
elementwise("aten.zero", lambda call: State.ZERO)


def _where(call: Zeroing) -> State:
    chosen = max(call.state(call.get("input")), call.state(call.get("other")))
    return chosen if chosen is State.ZERO else max(chosen, call.state(call.get("condition")))


def _masked_fill(call: Zeroing) -> State:
    filled = max(call.state(call.get("input")), call.state(call.get("value")))
    return filled if filled is State.ZERO else max(filled, call.state(call.get("mask")))


def _chosen(call: Call) -> Terms:
    return tuple(factors((call.get(name), name, 1.0)) for name in ("input", "other"))


def _filled(call: Call) -> Terms:
    """Zero and infinity stay what they are."""
    value = call.get("value")
    return (*of_first(call), *(() if value in (0, inf, -inf) else [factors((value, "value", 1.0))]))


elementwise("aten.where", _where, _chosen)
elementwise("aten.masked_fill", _masked_fill, _filled)
