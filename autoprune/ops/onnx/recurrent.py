"""LSTM, GRU and RNN of ONNX: all gates of a layer in one tensor, directions in front.

x  time batch input                  w  direction (gate hidden) input
b  direction (2 gate hidden)         r  direction (gate hidden) hidden
y  time direction batch hidden       h, c  direction batch hidden
"""

from __future__ import annotations

from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.group import Guarantee
from autoprune.ops.rule import Cost, Operator, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_STEADY = {
    "onnx.LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "onnx.GRU": ("Sigmoid", "Tanh"),
    "onnx.RNN": ("Tanh",),
}
"""The default functions, with which a hidden unit that starts at zero and has no weights stays."""


def _hidden(call: Call) -> Axis:
    return call.axes_of("r")[2]


def _axes(call: Typing) -> list[Shape]:
    time, batch, inputs = call.axes_of("input")
    call.pin(time, "steps of a recurrence")
    directions = call.axes_of("r")[0]
    call.pin(directions, "the directions of a recurrent layer")
    hidden = _hidden(call)
    call.same(call.axes_of("w")[2], inputs)
    for name in ("w", "r", "b", "p"):
        value = call.value(name)
        if value is None:
            continue
        call.same(call.axes_of(name)[0], directions)
        rows = call.axes_of(name)[1]
        gates = call.fixed(rows.size // hidden.size, "the gates of a recurrent layer")
        call.same(rows, ax.prod(gates, hidden))
    if call.value("lengths") is not None:
        call.same(batch, call.axes_of("lengths")[0])
    state = (directions, batch, hidden)
    for name in ("initial_h", "initial_c"):
        if call.value(name) is not None:
            call.align(call.axes_of(name), state)
    shapes = ((time, *state), state, state)
    return [shapes[i] for i in call.integers("outputs")]


def _zero(call: Zeroing) -> State:
    x, w = call.tensor("input"), call.tensor("w")
    if call.carries(x, 2):
        call.summed([x, w])
    if not call.within(_hidden(call)):
        return call.state(x) if call.carries(x, 1) else State.ANY
    if any(call.state(call.tensor(name)) is not State.ZERO for name in ("w", "r")):
        call.report(Guarantee.APPROXIMATE, "its recurrent weights are not trained")
        return State.ANY
    carried = [call.value(name) for name in ("b", "p", "initial_h", "initial_c")]
    starts_at_zero = all(call.state(v) is State.ZERO for v in carried if v is not None)
    functions = call.get("activations") or ()
    steady = _STEADY[call.node.op]
    named = functions if isinstance(functions, tuple) else (functions,)
    is_steady = all(f == steady[i % len(steady)] for i, f in enumerate(named))
    if starts_at_zero and is_steady:
        return State.ZERO
    call.report(Guarantee.MASKED, "its hidden state is not zero and is read")
    return State.ANY


def _cost(call: Call) -> Cost:
    steps = call.axes_of("input")[:2]
    return tuple((2, (*steps, *call.axes_of(name))) for name in ("w", "r"))


def _resize(call: Sizing) -> Resized:
    return Resized({"hidden_size": call.size(_hidden(call))})


register(
    "onnx.LSTM onnx.GRU onnx.RNN",
    Operator(axes=_axes, zero=_zero, cost=_cost, resize=_resize, normalizes=None),
)
