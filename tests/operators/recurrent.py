"""Recurrent layers and cells: what is zero stays zero, step after step."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.operators.case import Case, M, Z, free

SEQUENCE = ((5, 2, 3),)
D = torch.float64


def _layer(name, make, covers, groups, *, width=6, call=None, inputs=SEQUENCE, before=None):
    """linear 3 -> 4, the layer, linear width -> 2."""

    def run(m, x):
        y = m.b(before(m.a(x)) if before else m.a(x))
        return m.z(call(y) if call else y[0])

    return Case(
        name,
        covers,
        lambda: {"a": nn.Linear(3, 4), "b": make(), "z": nn.Linear(width, 2)},
        run,
        {"a.weight:0[4]": Z} | groups,
        inputs,
    )


H = {"b.weight_ih_l0:0/1[6]": Z}
ALONE = {"b.weight_ih_l0:0[6]": Z}


def _packed(name, make, groups, *, padding_value=0.0):
    """Sequences of 5 and 3 steps."""
    kind = name.removeprefix("packed ").split()[0]
    return _layer(
        name,
        make,
        f"{kind}.data _pack_padded_sequence _pad_packed_sequence",
        groups,
        before=lambda y: pack_padded_sequence(y, torch.tensor([5, 3])),
        call=lambda y: pad_packed_sequence(y[0], padding_value=padding_value)[0],
    )


PACKED = (
    _packed("packed lstm", lambda: nn.LSTM(4, 6, 2), H),
    _packed("packed gru", lambda: nn.GRU(4, 6), H),
    _packed("packed rnn_tanh", lambda: nn.RNN(4, 6), ALONE),
    _packed("packed rnn_relu", lambda: nn.RNN(4, 6, nonlinearity="relu"), ALONE),
    _packed(
        "packed gru filled with ones",
        lambda: nn.GRU(4, 6),
        {"b.weight_ih_l0:0/1[6]": M},
        padding_value=1.0,
    ),
)

LAYERS = (
    _layer("lstm", lambda: nn.LSTM(4, 6), "lstm.input", H),
    _layer("gru", lambda: nn.GRU(4, 6), "gru.input", H),
    _layer("rnn_tanh", lambda: nn.RNN(4, 6), "rnn_tanh.input", ALONE),
    _layer("rnn_relu", lambda: nn.RNN(4, 6, nonlinearity="relu"), "rnn_relu.input", ALONE),
    _layer("lstm of three layers", lambda: nn.LSTM(4, 6, 3), "lstm.input", H),
    _layer("gru batch first", lambda: nn.GRU(4, 6, 2, batch_first=True), "gru.input", H),
    _layer("lstm without bias", lambda: nn.LSTM(4, 6, bias=False), "lstm.input", H),
    _layer("gru of one sequence", lambda: nn.GRU(4, 6), "gru.input", H, inputs=((5, 3),)),
    _layer(
        "lstm in two directions",
        lambda: nn.LSTM(4, 6, 2, bidirectional=True),
        "lstm.input",
        H,
        width=12,
    ),
    _layer(
        "gru whose directions are added",
        lambda: nn.GRU(4, 6, bidirectional=True),
        "gru.input",
        H,
        call=lambda y: y[0][..., :6] + y[0][..., 6:],
    ),
    _layer(
        "gru whose directions are viewed",
        lambda: nn.GRU(4, 6, bidirectional=True),
        "gru.input",
        H,
        call=lambda y: y[0].view(5, 2, 2, 6).sum(2),
    ),
    _layer(
        "lstm with projections",
        lambda: nn.LSTM(4, 6, proj_size=3),
        "lstm.input",
        {"b.weight_hh_l0:1[3]": Z},
        width=3,
    ),
    _layer(
        "lstm with projections, two layers and directions",
        lambda: nn.LSTM(4, 6, 2, proj_size=3, bidirectional=True),
        "lstm.input",
        {"b.weight_hh_l0:1[3]": Z},
        width=6,
    ),
    _layer("last output of a gru", lambda: nn.GRU(4, 6), "gru.input", H, call=lambda y: y[0][-1]),
    _layer(
        "final state of a gru", lambda: nn.GRU(4, 6, 2), "gru.input", H, call=lambda y: y[1][-1]
    ),
    _layer(
        "final memory of an lstm",
        lambda: nn.LSTM(4, 6, bidirectional=True),
        "lstm.input",
        H,
        width=12,
        call=lambda y: torch.cat([y[1][1][0], y[1][1][1]], -1),
    ),
    Case(
        "lstm that reads what is not zero",
        "lstm.input",
        lambda: {"a": nn.Linear(3, 4), "b": nn.LSTM(4, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(m.a(x).sigmoid())[0]),
        {"a.weight:0[4]": M} | H,
        SEQUENCE,
    ),
    Case(
        "recurrent layers one after the other",
        "lstm.input gru.input",
        lambda: {"a": nn.LSTM(3, 6), "b": nn.GRU(6, 5), "z": nn.Linear(5, 2)},
        lambda m, x: m.z(m.b(m.a(x)[0])[0]),
        {"a.weight_ih_l0:0/1[6]": Z, "b.weight_ih_l0:0/1[5]": Z},
        SEQUENCE,
    ),
    Case(
        "a residual around a gru",
        "gru.input",
        lambda: {"a": nn.Linear(3, 6), "b": nn.GRU(6, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z((y := m.a(x)) + m.b(y)[0]),
        {"a.weight:0[6]": Z},
        SEQUENCE,
    ),
)


def _started(name, make, covers, state, groups):
    """A layer that starts from a learned state."""
    return Case(
        name,
        covers,
        lambda: {"b": make(), "h": free(1, 2, 6), "c": free(1, 2, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(x, state(m))[0]),
        groups,
        SEQUENCE,
    )


STATES = (
    _started(
        "learned state of a gru", lambda: nn.GRU(3, 6), "gru.input", lambda m: m.h, {"h:2[6]": Z}
    ),
    _started(
        "learned state of an lstm",
        lambda: nn.LSTM(3, 6),
        "lstm.input",
        lambda m: (m.h, m.c),
        {"h:2[6]": Z},
    ),
    _started(
        "state of an lstm that is not zero",
        lambda: nn.LSTM(3, 6),
        "lstm.input",
        lambda m: (m.h.cos(), m.c),
        {"h:2[6]": M},
    ),
    _started(
        "memory of an lstm that is not zero",
        lambda: nn.LSTM(3, 6),
        "lstm.input",
        lambda m: (m.h, m.c.cos()),
        {"h:2[6]": M},
    ),
    _started(
        "state of a gru that is not zero",
        lambda: nn.GRU(3, 6),
        "gru.input",
        lambda m: m.h.cos(),
        {"h:2[6]": M},
    ),
    Case(
        "a decoder that starts where an encoder ended",
        "lstm.input",
        lambda: {"a": nn.LSTM(3, 6), "b": nn.LSTM(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x, y: m.z(m.b(y, m.a(x)[1])[0]),
        {"a.weight_ih_l0:0/1[6]": Z},
        ((5, 2, 3), (4, 2, 3)),
    ),
    Case(
        "memory of a projected lstm that is not zero",
        "lstm.input",
        lambda: {"b": nn.LSTM(3, 6, proj_size=4), "c": free(1, 2, 6), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(m.b(x, (torch.zeros(1, 2, 4, dtype=D), m.c.cos()))[0]),
        {"b.weight_hh_l0:1[4]": Z},
        SEQUENCE,
    ),
)


def _cells(name, make, covers, groups, *, pair=False):
    """A cell in a loop over the sequence, from a state of zeros."""

    def run(m, x):
        h = torch.zeros(x.shape[1], 6, dtype=D)
        h = (h, h) if pair else h
        for step in x:
            h = m.b(m.a(step), h)
        return m.z(h[0] if pair else h)

    return Case(
        name,
        covers,
        lambda: {"a": nn.Linear(3, 4), "b": make(), "z": nn.Linear(6, 2)},
        run,
        {"a.weight:0[4]": Z} | groups,
        SEQUENCE,
    )


CELL, PLAIN = {"b.weight_ih:0/1[6]": Z}, {"b.weight_ih:0[6]": Z}

CELLS = (
    _cells("lstm_cell", lambda: nn.LSTMCell(4, 6), "lstm_cell", CELL, pair=True),
    _cells("gru_cell", lambda: nn.GRUCell(4, 6), "gru_cell", CELL),
    _cells("rnn_tanh_cell", lambda: nn.RNNCell(4, 6), "rnn_tanh_cell", PLAIN),
    _cells("rnn_relu_cell", lambda: nn.RNNCell(4, 6, False, "relu"), "rnn_relu_cell", PLAIN),
    Case(
        "a cell from its own state of zeros",
        "gru_cell",
        lambda: {"b": nn.GRUCell(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(x)),
        CELL,
    ),
)

RECURRENT = (*LAYERS, *PACKED, *STATES, *CELLS)
