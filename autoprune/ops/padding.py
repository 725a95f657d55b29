"""Operators that add positions around a tensor."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.ir import axes as ax
from autoprune.ops.rule import Operator, Terms, of_first, passes_on, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing


def padded(call: Typing, source: Shape, widths: Iterable[tuple[int, int, int]]) -> Shape:
    """Constant padding concatenates new positions; other modes look at neighbours.

    Args:
        call: the call, with an argument `mode`.
        source: axes of what is padded.
        widths: dimensions, each with the positions added before and after.
    """
    shape = list(source)
    constant = call.get("mode", "constant") == "constant"
    for dim, left, right in widths:
        if not left and not right:
            continue
        if constant and left >= 0 and right >= 0:
            shape[dim] = ax.concat(call.axes.leaf(left), shape[dim], call.axes.leaf(right))
        else:
            call.pin(shape[dim], "padded with its neighbours")
            shape[dim] = call.fixed(call.output.shape[dim], "padded with its neighbours")
    return tuple(shape)


def _pad_axes(call: Typing) -> list[Shape]:
    source, pads = call.axes_of(call.tensors[0]), call.integers("pad")
    last = len(source) - 1
    widths = ((last - i, pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2))
    return [padded(call, source, widths)]


def _pad_resize(call: Sizing) -> Resized:
    source, output = call.axes_of(call.tensors[0]), call.axes_of(call.output)
    widths = list(call.integers("pad"))
    for i in range(len(widths) // 2):
        dim = len(source) - 1 - i
        if call.size(output[dim]) == output[dim].size:
            continue
        left, right = widths[2 * i], widths[2 * i + 1]
        total = call.size(output[dim])
        widths[2 * i] = call.before(output[dim], left)
        widths[2 * i + 1] = total - call.before(output[dim], output[dim].size - right)
    return Resized({"pad": tuple(widths)})


def _pad_terms(call: Call) -> Terms:
    """Zeros, or numbers of the tensor itself, are added around it; others are none of its own."""
    zero = call.get("mode", "constant") != "constant" or call.get("value", 0) == 0
    return of_first(call) if zero else ()


def _pad_state(call: Zeroing) -> State:
    state = passes_on(call) if call.carries(call.tensors[0]) else State.ZERO
    return max(state, call.state(call.get("value", 0)))


register(
    "aten.pad aten.constant_pad_nd",
    Operator(axes=_pad_axes, zero=_pad_state, resize=_pad_resize, homogeneous=_pad_terms),
)
