"""LSTM, GRU and RNN, by torch's own layers where they compute the same.

ONNX orders the gates differently: weights are put in torch's order in every forward pass, so that
gradients reach the tensors of the model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import fx

from autoprune.frameworks.onnx.to_torch.writer import OnnxCall, writes

_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where torch's gates stand in ONNX: i f g o among i o f c, r z n among z r h."""


def _ordered(rows: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """Rows of all gates, in another order of the gates."""
    if len(order) == 1:
        return rows
    gates = torch.chunk(rows, len(order), 0)
    return torch.cat([gates[i] for i in order], 0)


def recur(
    kind: str,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None,
    h: torch.Tensor | None,
    c: torch.Tensor | None,
    direction: str,
    time_first: bool,
) -> tuple[torch.Tensor, ...]:
    """A recurrent layer by torch.

    Args:
        kind: `LSTM`, `GRU`, `RNN_TANH` or `RNN_RELU`.
        x: shape [time, batch, inputs], or [batch, time, inputs].
        w: shape [directions, gates * hidden, inputs].
        r: shape [directions, gates * hidden, hidden].
        b: shape [directions, 2 * gates * hidden].
        h: initial state, shape [directions, batch, hidden], or [batch, directions, hidden].
        c: initial memory, in the same shape.
        direction: `forward`, `reverse` or `bidirectional`.
        time_first: which of the shapes.

    Returns:
        All states [time, directions, batch, hidden], the last state and, for an LSTM, the last
        memory [directions, batch, hidden]; with the batch in front otherwise.
    """
    if not time_first:
        x = x.transpose(0, 1)
    directions, hidden = w.shape[0], r.shape[2]
    if direction == "reverse":
        x = torch.flip(x, (0,))
    zero = x.new_zeros(directions, x.shape[1], hidden)
    start = [zero if s is None else s if time_first else s.transpose(0, 1) for s in (h, c)]
    order = _ORDER[kind.split("_")[0]]
    weights = []
    for d in range(directions):
        weights += [_ordered(w[d], order), _ordered(r[d], order)]
        if b is not None:
            weights += [_ordered(part, order) for part in torch.chunk(b[d], 2, 0)]
    rest = (weights, b is not None, 1, 0.0, False, directions == 2, False)
    if kind == "LSTM":
        y, *last = torch.lstm(x, start, *rest)
    else:
        y, *last = _LAYERS[kind](x, start[0], *rest)
    if direction == "reverse":
        y = torch.flip(y, (0,))
    y = y.reshape(*y.shape[:2], directions, hidden)
    if time_first:
        return (y.transpose(1, 2), *last)
    return (y.transpose(0, 1), *(s.transpose(0, 1) for s in last))


def reset_first(
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None,
    h: torch.Tensor | None,
    direction: str,
    time_first: bool,
) -> tuple[torch.Tensor, ...]:
    """A GRU whose reset gate comes before the product, which torch has not; see `recur`."""
    if not time_first:
        x, h = x.transpose(0, 1), None if h is None else h.transpose(0, 1)
    states, last = [], []
    for d in range(w.shape[0]):
        backward = direction == "reverse" or d == 1
        start = x.new_zeros(x.shape[1], r.shape[2]) if h is None else h[d]
        bias = None if b is None else b[d]
        rows = _reset_first_steps(torch.flip(x, (0,)) if backward else x, w[d], r[d], bias, start)
        last.append(rows[-1])
        states.append(torch.flip(rows, (0,)) if backward else rows)
    y, final = torch.stack(states, 1), torch.stack(last)
    if time_first:
        return y, final
    return y.permute(2, 0, 1, 3), final.transpose(0, 1)


def _reset_first_steps(
    x: torch.Tensor, w: torch.Tensor, r: torch.Tensor, b: torch.Tensor | None, h: torch.Tensor
) -> torch.Tensor:
    """The states of one direction, shape [time, batch, hidden]."""
    hidden = r.shape[1]
    from_input = F.linear(x, w, None if b is None else torch.sum(torch.stack(b.chunk(2)), 0))
    states = []
    for step in from_input:
        update, reset, new = step.chunk(3, -1)
        update = torch.sigmoid(update + h @ r[:hidden].T)
        reset = torch.sigmoid(reset + h @ r[hidden : 2 * hidden].T)
        new = torch.tanh(new + (reset * h) @ r[2 * hidden :].T)
        h = (1 - update) * new + update * h
        states.append(h)
    return torch.stack(states)


_LAYERS: dict[str, Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {
    "GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu,
}  # fmt: skip

_USUAL = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"],
}  # fmt: skip


@writes("LSTM GRU RNN")
def _recurrent(call: OnnxCall) -> list[fx.Node]:
    direction = call.attribute("direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    kind = _kind(call, directions)
    has_memory = call.op == "LSTM"
    time_first = not call.attribute("layout", 0)
    if call.op == "GRU" and not call.attribute("linear_before_reset", 0):
        return call.emit_parts(
            reset_first, 2, call.tensor(0), call.tensor(1), call.tensor(2), call.optional(3),
            call.optional(5), direction, time_first,
        )  # fmt: skip
    return call.emit_parts(
        recur, 3 if has_memory else 2, kind, call.tensor(0), call.tensor(1), call.tensor(2),
        call.optional(3), call.optional(5), call.optional(6) if has_memory else None,
        direction, time_first,
    )  # fmt: skip


def _kind(call: OnnxCall, directions: int) -> str:
    """The layer of torch that computes the same.

    Raises:
        TraceError: if there is none.
    """
    usual = _USUAL[call.op]
    given = list(call.attribute("activations", usual * directions))
    rectified = call.op == "RNN" and given == ["Relu"] * directions
    if given != usual * directions and not rectified:
        raise call.unsupported(f"its activations are {', '.join(given)}")
    if call.attribute("clip") or call.attribute("input_forget", 0) or call.has(7):
        raise call.unsupported("it clips, couples its gates, or has peepholes")
    if call.has(4) and not _full_length(call):
        raise call.unsupported("its sequences may have different lengths")
    return call.op if call.op != "RNN" else "RNN_RELU" if rectified else "RNN_TANH"


def _full_length(call: OnnxCall) -> bool:
    """Whether all sequences are known to be as long as the tensor."""
    lengths = call.known(4)
    time = call.shape(0)[1 if call.attribute("layout", 0) else 0]
    return lengths is not None and all(n == time for n in lengths.tolist())
