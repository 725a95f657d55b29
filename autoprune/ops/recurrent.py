"""Recurrent layers and cells: LSTM, GRU and the plain ones.

    w_ih   (gate hidden) x input         w_hr   output x hidden
    w_hh   (gate hidden) x output        h      ... output       c   ... hidden

`output` is `hidden` where there is no projection. All layers and directions of one call share
both axes, because the states of all of them are stacked in one tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoprune.errors import GraphError
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.graph import Argument, Value
from autoprune.ir.group import Guarantee
from autoprune.ops.elementwise import drawn
from autoprune.ops.rule import Cost, Operator, first_state, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_PACKED = "sequences of several lengths are packed along it"
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclass(frozen=True)
class _Cell:
    """The weights of one layer in one direction."""

    w_ih: Value
    w_hh: Value
    biases: tuple[Value, ...] = ()
    w_hr: Value | None = None

    @property
    def producers(self) -> tuple[Value, ...]:
        """The tensors whose first axis is `gate x hidden`."""
        return (self.w_ih, self.w_hh, *self.biases)


@dataclass(frozen=True)
class _Recurrence:
    """What one call computes.

    Attributes:
        kind: `lstm`, `gru` or `rnn`.
        x: the input.
        layers: the cells of each layer, one or two of them by direction.
        h: the initial output.
        c: the initial memory of an LSTM.
    """

    kind: str
    x: Value
    layers: tuple[tuple[_Cell, ...], ...]
    h: Value
    c: Value | None

    @property
    def cells(self) -> Iterator[_Cell]:
        for layer in self.layers:
            yield from layer

    @property
    def projections(self) -> tuple[Value, ...]:
        return tuple(cell.w_hr for cell in self.cells if cell.w_hr is not None)

    @property
    def first(self) -> _Cell:
        return self.layers[0][0]

    @property
    def gates(self) -> int:
        return _GATES[self.kind]


def _describe(call: Call) -> _Recurrence:
    kind = call.node.op.split(".")[1].split("_")[0]
    states = _values(call.get("hx"))
    layers = _layers(call) if "params" in call.node.arguments else ((_single_cell(call),),)
    return _Recurrence(
        kind, call.tensors[0], layers, states[0], states[1] if kind == "lstm" else None
    )


def _values(argument: Argument) -> tuple[Value, ...]:
    parts = argument if isinstance(argument, tuple) else (argument,)
    return tuple(v for v in parts if isinstance(v, Value))


def _layers(call: Call) -> tuple[tuple[_Cell, ...], ...]:
    """The flat list of parameters by layer and direction: w_ih, w_hh, [b_ih, b_hh,] [w_hr]."""
    params = _values(call.get("params"))
    count, directions = call.integer("num_layers"), 2 if call.get("bidirectional") is True else 1
    each = len(params) // (count * directions)
    biases = 2 if call.get("has_biases") is True else 0
    if each * count * directions != len(params) or each - biases not in (2, 3):
        raise GraphError(f"{len(params)} weights for {count} layers", where=str(call.node))

    def cell(i: int) -> _Cell:
        own = params[i * each : (i + 1) * each]
        return _Cell(own[0], own[1], own[2 : 2 + biases], own[-1] if each > 2 + biases else None)

    cells = [cell(i) for i in range(count * directions)]
    return tuple(tuple(cells[i * directions : (i + 1) * directions]) for i in range(count))


def _single_cell(call: Call) -> _Cell:
    biases = (call.value("b_ih"), call.value("b_hh"))
    return _Cell(
        call.tensor("w_ih"), call.tensor("w_hh"), tuple(b for b in biases if b is not None)
    )


def _couple(call: Typing, net: _Recurrence) -> tuple[Axis, Axis]:
    """State which axes of the weights are the same; returns the output's and the hidden axis."""
    width = net.first.w_hh.shape[1]
    size = net.first.w_ih.shape[0] // net.gates
    gates = call.fixed(net.gates, "the gates of a recurrent layer")
    hidden = call.axes.leaf(size)
    output = hidden if net.first.w_hr is None else call.axes.leaf(width)
    inputs = call.axes_of(net.x)[-1]
    for layer in net.layers:
        for cell in layer:
            for value in cell.producers:
                call.same(call.axes_of(value)[0], ax.prod(gates, hidden))
            call.same(call.axes_of(cell.w_ih)[1], inputs)
            call.same(call.axes_of(cell.w_hh)[1], output)
            if cell.w_hr is not None:
                call.same(call.axes_of(cell.w_hr)[0], output)
                call.same(call.axes_of(cell.w_hr)[1], hidden)
                call.pin(hidden, "a projected layer must stay wider than its projection")
        inputs = ax.prod(call.fixed(len(layer), "the directions of a recurrent layer"), output)
    call.same(call.axes_of(net.h)[-1], output)
    if net.c is not None:
        call.same(call.axes_of(net.c)[-1], hidden)
    return output, hidden


def _sequence_axes(call: Typing) -> list[Shape]:
    """`t b i, (l d) b o, (l d) b h -> t b (d o), (l d) b o, (l d) b h`.

    Packed sequences have one axis of rows in place of time and batch.
    """
    net = _describe(call)
    output, hidden = _couple(call, net)
    x = call.axes_of(net.x)
    states = [net.h] if net.c is None else [net.h, net.c]
    batch = call.axes_of(net.h)[1]
    if "batch_sizes" in call.node.arguments:
        call.pin(x[0], _PACKED)
        call.pin(call.axes_of("batch_sizes")[0], _PACKED)
    else:
        time, batch = (x[1], x[0]) if call.get("batch_first") is True else (x[0], x[1])
        call.pin(time, "a sequence is read along it")
    for state in states:
        call.pin(call.axes_of(state)[0], "the layers of a recurrent network")
        call.same(batch, call.axes_of(state)[1])
    wide = ax.prod(call.fixed(len(net.layers[0]), "the directions of a recurrent layer"), output)
    stacked = call.axes_of(net.h)[:2]
    finals = [(*stacked, axis) for axis in (output, hidden)[: len(states)]]
    return [(*x[:-1], wide), *finals]


def _cell_axes(call: Typing) -> list[Shape]:
    """`b i, b h -> b h`."""
    net = _describe(call)
    output, hidden = _couple(call, net)
    batch = list(call.axes_of(net.x)[:-1])
    for state in (net.h, net.c):
        if state is not None:
            for i, axis in enumerate(call.axes_of(state)[:-1]):
                batch[i] = call.same(batch[i], axis)
    return [(*batch, axis) for axis in (output, hidden)[: len(call.node.outputs)]]


def _zero(call: Zeroing) -> State:
    """A unit without weights and memory stays at zero: every gate lets zero pass.

    An LSTM's memory is `f c + i tanh(0)`, a GRU's output `(1 - z) tanh(0) + z h`.
    """
    net = _describe(call)
    if call.get("train") is True and call.get("dropout", 0.0) != 0.0:
        drawn(call)
    state = State.ZERO
    if any(call.within(axis) for axis in call.axes_of(net.x)[:-1]):
        state = State.ANY
    if call.carries(net.x, -1):
        for cell in net.layers[0]:
            call.summed([net.x, cell.w_ih])
    if call.carries(net.first.w_ih, 0):
        state = max(state, _unit_state(call, net))
    if call.carries(net.first.w_hh, 1):
        state = max(state, _output_state(call, net))
    return state


def _unit_state(call: Zeroing, net: _Recurrence) -> State:
    """State of the hidden units, before any projection."""
    memory = {"lstm": net.c, "gru": net.h, "rnn": None}[net.kind]
    states = [call.state(v) for cell in net.cells for v in cell.producers]
    state = max(*states, State.ZERO if memory is None else call.state(memory))
    if state in (State.ZERO, State.UNDEFINED):
        return state
    return State.ANY


def _output_state(call: Zeroing, net: _Recurrence) -> State:
    """State of the outputs; reports what reading them in the next step and layer means."""
    if net.projections:
        state = max(call.state(v) for v in net.projections)
    else:
        state = _unit_state(call, net)
    later = [cell.w_ih for layer in net.layers[1:] for cell in layer]
    _read(call, max(state, call.state(net.h)), [*(cell.w_hh for cell in net.cells), *later])
    return state


def _read(call: Zeroing, state: State, weights: Sequence[Value]) -> None:
    """Report what summing units in this state, times these weights, means."""
    if state is State.ZERO:
        return
    if state is State.UNDEFINED or any(call.state(w) is not State.ZERO for w in weights):
        call.report(Guarantee.APPROXIMATE, "values that are not zero are summed")
    else:
        call.report(Guarantee.MASKED, "activations that are not zero are read")


def _cost(call: Call) -> Cost:
    """Every weight matrix is applied to every element of the sequence."""
    net = _describe(call)
    steps = call.axes_of(net.x)[:-1]
    matrices = [w for c in net.cells for w in (c.w_ih, c.w_hh, c.w_hr) if w is not None]
    return tuple((2, (*steps, *call.axes_of(w))) for w in matrices)


def _resize(call: Sizing) -> Resized:
    """No argument says a width, but the layers keep theirs."""
    net = _describe(call)
    call.size(call.axes_of(net.x)[-1])
    call.size(call.axes_of(net.h)[-1])
    if net.c is not None:
        call.size(call.axes_of(net.c)[-1])
    return Resized()


register(
    "aten.lstm.input aten.gru.input aten.rnn_tanh.input aten.rnn_relu.input",
    Operator(axes=_sequence_axes, zero=_zero, cost=_cost, resize=_resize, normalizes=None),
)


def _packed_axes(call: Typing) -> list[Shape]:
    """`t b ... -> rows ..., t`."""
    time, batch, *features = call.axes_of("input")
    for axis in (time, batch, *call.axes_of("lengths")):
        call.pin(axis, _PACKED)
    rows, sizes = call.node.outputs
    return [(call.fixed(rows.shape[0], _PACKED), *features), (call.fixed(sizes.shape[0], _PACKED),)]


def _padded_axes(call: Typing) -> list[Shape]:
    """`rows ..., t -> t b ..., b`."""
    rows, *features = call.axes_of("data")
    for axis in (rows, *call.axes_of("batch_sizes")):
        call.pin(axis, _PACKED)
    padded, lengths = (
        [call.fixed(n, _PACKED) for n in value.shape[: 2 - i]]
        for i, value in enumerate(call.node.outputs)
    )
    return [(*padded, *features), tuple(lengths)]


def _padded_zero(call: Zeroing) -> State:
    """Short sequences are filled up with a number."""
    filled = State.ZERO if call.get("padding_value", 0.0) == 0 else State.CONSTANT
    return max(call.state(call.tensor("data")), filled)


register(
    "aten.lstm.data aten.gru.data aten.rnn_tanh.data aten.rnn_relu.data",
    Operator(axes=_sequence_axes, zero=_zero, cost=_cost, resize=_resize, normalizes=None),
)
register("aten._pack_padded_sequence", Operator(axes=_packed_axes, zero=first_state))
register("aten._pad_packed_sequence", Operator(axes=_padded_axes, zero=_padded_zero))
register(
    "aten.lstm_cell aten.gru_cell aten.rnn_tanh_cell aten.rnn_relu_cell",
    Operator(axes=_cell_axes, zero=_zero, cost=_cost, resize=_resize, normalizes=None),
)
