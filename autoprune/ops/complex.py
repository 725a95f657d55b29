"""Complex numbers: made of real ones, taken apart, conjugated."""

from __future__ import annotations

from autoprune.ops.elementwise import elementwise_axes
from autoprune.ops.rule import Operator, first_state, joined, register
from autoprune.ops.views import Shape, State, Typing, Zeroing

register(
    "aten.imag aten._conj aten.resolve_conj aten.resolve_neg",
    Operator(axes=elementwise_axes, zero=first_state, aliases=True),
)
register("aten.angle aten.conj_physical", Operator(axes=elementwise_axes, zero=first_state))
register(
    "aten.complex", Operator(axes=elementwise_axes, zero=lambda call: joined(call, call.tensors))
)


def _polar_state(call: Zeroing) -> State:
    """`abs * exp(i angle)`."""
    radius = call.state(call.tensor("abs"))
    if radius is State.ZERO:
        return radius
    return max(State.CONSTANT, radius, call.state(call.tensor("angle")))


register("aten.polar", Operator(axes=elementwise_axes, zero=_polar_state))


def _as_real_axes(call: Typing) -> list[Shape]:
    """`... -> ... 2`."""
    return [(*call.axes_of("input"), call.fixed(2, "real and imaginary part"))]


def _as_complex_axes(call: Typing) -> list[Shape]:
    """`... 2 -> ...`."""
    *shape, parts = call.axes_of("input")
    call.pin(parts, "real and imaginary part")
    return [tuple(shape)]


register("aten.view_as_real", Operator(axes=_as_real_axes, zero=first_state, aliases=True))
register("aten.view_as_complex", Operator(axes=_as_complex_axes, zero=first_state, aliases=True))
