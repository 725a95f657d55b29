"""Operators that make tensors: filled tensors may change size, sequences may not."""

from __future__ import annotations

from autoprune.ir.graph import Argument, Value
from autoprune.ops.elementwise import drawn, elementwise_axes
from autoprune.ops.pinning import mixing
from autoprune.ops.rule import Operator, any_state, register
from autoprune.ops.views import Resized, Shape, Sizing, State, Typing, Zeroing


def _filled_axes(call: Typing) -> list[Shape]:
    """Every axis is new and may be cut: the tensor is made smaller."""
    return [tuple(call.axes.leaf(n) for n in call.output.shape)]


def _filled_resize(call: Sizing) -> Resized:
    return Resized({"size": call.resized("size", call.axes_of(call.output))})


def _value_state(call: Zeroing, value: Argument) -> State:
    return State.ZERO if not isinstance(value, Value) and value == 0 else State.CONSTANT


def _fill_state(call: Zeroing) -> State:
    packet = call.node.op.split(".")[1]
    if packet in ("zeros", "new_zeros", "zeros_like"):
        return State.ZERO
    if packet in ("full", "new_full", "full_like"):
        return _value_state(call, call.get("fill_value", 0))
    if packet in ("ones", "new_ones", "ones_like", "scalar_tensor"):
        return State.CONSTANT
    return State.ANY


def _like_axes(call: Typing) -> list[Shape]:
    return [call.axes_of(call.tensors[0])]


def _sequence_axes(call: Typing) -> list[Shape]:
    reason = "values depend on the position"
    return [tuple(call.fixed(n, reason) for n in v.shape) for v in call.node.outputs]


register(
    "aten.zeros aten.ones aten.full aten.empty aten.new_zeros aten.new_ones aten.new_full "
    "aten.new_empty",
    Operator(axes=_filled_axes, zero=_fill_state, resize=_filled_resize),
)


def _random_state(call: Zeroing) -> State:
    drawn(call)
    return State.ANY


register(
    "aten.rand aten.randn aten.randint aten.normal.float_float",
    Operator(axes=_filled_axes, zero=_random_state, resize=_filled_resize, draws=True),
)
register(
    "aten.normal aten.poisson", Operator(axes=elementwise_axes, zero=_random_state, draws=True)
)
register(
    "aten.rand_like aten.randn_like aten.randint_like aten.uniform aten.exponential aten.random "
    "aten.geometric aten.cauchy aten.log_normal",
    Operator(axes=_like_axes, zero=_random_state, draws=True),
)
register("aten.multinomial", mixing(lambda call: (-1,), "drawn from it", _random_state, draws=True))
register(
    "aten.zeros_like aten.ones_like aten.full_like aten.empty_like",
    Operator(axes=_like_axes, zero=_fill_state),
)
register(
    "aten.arange aten.linspace aten.logspace aten.range aten.scalar_tensor aten.eye "
    "aten.tril_indices aten.triu_indices aten.hann_window aten.hamming_window "
    "aten.blackman_window aten.bartlett_window aten.kaiser_window aten.fft_fftfreq "
    "aten.fft_rfftfreq",
    Operator(axes=_sequence_axes, zero=_fill_state),
)
register("aten.randperm", Operator(axes=_sequence_axes, zero=_fill_state, draws=True))


def _no_tensor_axes(call: Typing) -> list[Shape]:
    return [() for _ in call.node.outputs]


register(
    "aten.sym_size aten.sym_numel aten.sym_stride aten._assert_scalar aten._assert_async "
    "aten._assert_tensor_metadata aten.sym_constrain_range aten.sym_constrain_range_for_size "
    "operator.add operator.sub operator.mul operator.floordiv operator.mod operator.truediv "
    "operator.neg operator.eq operator.ne operator.lt operator.le operator.gt operator.ge "
    "operator.pow operator.and_ operator.or_ math.ceil math.floor math.trunc "
    "torch.sym_max torch.sym_min torch.sym_int torch.sym_float torch.sym_not torch.sym_ite",
    Operator(axes=_no_tensor_axes, zero=any_state),
)
