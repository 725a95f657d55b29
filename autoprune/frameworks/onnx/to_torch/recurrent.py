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
        kind: of `_LAYERS`.
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
        h, c = (s if s is None else s.transpose(0, 1) for s in (h, c))
    directions, hidden = w.shape[0], r.shape[2]
    if direction == "reverse":
        x = torch.flip(x, (0,))
    zero = x.new_zeros(directions, x.shape[1], hidden)
    start = [zero if s is None else s for s in (h, c)]
    layer, order = _LAYERS[kind]
    weights = []
    for d in range(directions):
        parts = [w[d], r[d], *([] if b is None else torch.chunk(b[d], 2))]
        weights += [_ordered(part, order) for part in parts]
    y, *last = layer(
        x, start if kind == "LSTM" else start[0],
        weights, b is not None, 1, 0.0, False, directions == 2, False,
    )  # fmt: skip
    if direction == "reverse":
        y = torch.flip(y, (0,))
    y = y.reshape(*y.shape[:2], directions, hidden)
    if time_first:
        return (y.transpose(1, 2), *last)
    return (y.transpose(0, 1), *(s.transpose(0, 1) for s in last))


def _reset_first(
    x: torch.Tensor, h: torch.Tensor, weights: list[torch.Tensor], *_: object
) -> tuple[torch.Tensor, torch.Tensor]:
    """`torch.gru` with the reset gate before the product, and the gates in the order of ONNX."""
    each, hidden = len(weights) // len(h), h.shape[2]
    outputs, last = [], []
    for d, state in enumerate(h):
        w, r, *biases = weights[d * each : (d + 1) * each]
        bias = torch.sum(torch.stack(biases), 0) if biases else None
        states = []
        for step in F.linear(torch.flip(x, (0,)) if d else x, w, bias):
            update, reset, new = step.chunk(3, -1)
            update = torch.sigmoid(update + state @ r[:hidden].T)
            reset = torch.sigmoid(reset + state @ r[hidden : 2 * hidden].T)
            new = torch.tanh(new + (reset * state) @ r[2 * hidden :].T)
            state = (1 - update) * new + update * state
            states.append(state)
        last.append(state)
        outputs.append(torch.stack(states[::-1] if d else states))
    return torch.cat(outputs, 2), torch.stack(last)


_LAYERS: dict[str, tuple[Callable[..., tuple[torch.Tensor, ...]], tuple[int, ...]]] = {
    "LSTM": (torch.lstm, (0, 2, 3, 1)), "GRU": (torch.gru, (1, 0, 2)),
    "GRU_RESET_FIRST": (_reset_first, (0, 1, 2)), "RNN_TANH": (torch.rnn_tanh, (0,)),
    "RNN_RELU": (torch.rnn_relu, (0,)),
}  # fmt: skip
"""With where its gates stand in ONNX: i f g o among i o f c, r z n among z r h."""

_USUAL = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"],
}  # fmt: skip


@writes("LSTM GRU RNN")
def _recurrent(call: OnnxCall) -> list[fx.Node]:
    direction = call.attribute("direction", "forward")
    kind = _kind(call, 2 if direction == "bidirectional" else 1)
    inputs = [call.tensor(i) for i in (0, 1, 2, 3, 5, 6)]
    return call.emit_parts(recur, kind, *inputs, direction, not call.attribute("layout", 0))


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
    if call.op == "RNN":
        return "RNN_RELU" if rectified else "RNN_TANH"
    first = call.op == "GRU" and not call.attribute("linear_before_reset", 0)
    return "GRU_RESET_FIRST" if first else call.op


def _full_length(call: OnnxCall) -> bool:
    """Whether all sequences are known to be as long as the tensor."""
    lengths = call.known(4)
    time = call.shape(0)[1 if call.attribute("layout", 0) else 0]
    return lengths is not None and all(n == time for n in lengths.tolist())
