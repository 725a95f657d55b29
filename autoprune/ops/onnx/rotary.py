"""Rotary position embedding: pairs of channels are turned, by the same angle in every head.

    n h l (2 p), l p -> n h l (2 p)        halves, or (p 2) where neighbours are pairs

The pairs of all heads share one table of cosines and one of sines, so that the same go everywhere.
"""

from __future__ import annotations

from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ops.pinning import pin_tensors
from autoprune.ops.rule import Operator, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_REASON = "its position says by how much it is turned"


def _sizes(call: Call) -> tuple[int, int, int]:
    """Heads, width of a head, and how much of it is turned."""
    x = call.tensor("input")
    turned = call.integer("turned", 0)
    if len(x.shape) == 4:
        heads, width = x.shape[1], x.shape[3]
    else:
        heads = call.integer("heads", 0) or x.shape[2] // (2 * call.tensor("cos").shape[-1])
        width = x.shape[2] // heads
    return heads, width, turned or width


def _axes(call: Typing) -> list[Shape]:
    shape = call.axes_of("input")
    heads, width, turned = _sizes(call)
    call.pin(shape[-2], _REASON)
    last = shape[-1]
    if len(shape) == 3:
        last = call.axes.factor(last, (heads, width))[1]
    if turned < width:
        last = call.axes.pieces(last, (turned, width - turned))[0]
    beside = call.get("interleaved") is True
    sizes = (turned // 2, 2) if beside else (2, turned // 2)
    parts = call.axes.factor(last, sizes)
    pairs, two = parts if beside else parts[::-1]
    call.pin(two, "both of a pair are turned")
    for name in ("cos", "sin"):
        table = call.axes_of(name)
        call.same(table[-1], pairs)
        for axis in table[:-1]:
            call.pin(axis, _REASON)
    pin_tensors(call, _REASON, "positions")
    if call.value("positions") is not None or len(call.axes_of("cos")) == 3:
        call.pin(shape[0], _REASON)
    return [call.axes_of("input")]


def _zero(call: Zeroing) -> State:
    x = call.tensor("input")
    return call.state(x) if call.carries(x) else State.ANY


def _resize(call: Sizing) -> Resized:
    heads, width, turned = _sizes(call)
    last: Axis = call.axes_of("input")[-1]
    changed: dict[str, int] = {}
    try:
        outer, inner = (
            ax.outer_and_inner(last, width)
            if len(call.tensor("input").shape) == 3
            else (None, last)
        )
        part = inner if turned == width else ax.split_at(inner, turned)[0]
    except ValueError:  # a pinned mixture
        return Resized()
    if outer is not None and call.get("heads") and call.size(outer) != heads:
        changed["heads"] = call.size(outer)
    if call.get("turned") and call.size(part) != turned:
        changed["turned"] = call.size(part)
    return Resized(changed)


register(
    "onnx.RotaryEmbedding microsoft.RotaryEmbedding",
    Operator(axes=_axes, zero=_zero, resize=_resize),
)
