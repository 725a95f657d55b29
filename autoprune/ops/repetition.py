"""Operators that repeat what they read."""

from __future__ import annotations

from dataclasses import replace

from autoprune.ir import axes as ax
from autoprune.ir.axes import ONE, Axis
from autoprune.ir.graph import Argument
from autoprune.ops.elementwise import elementwise_axes
from autoprune.ops.rule import Operator, first_state, joined_state, never_zero, of_first, register
from autoprune.ops.shape import shape_resize
from autoprune.ops.views import Resized, Shape, Sizing, Typing


def _expand_axes(call: Typing) -> list[Shape]:
    """Stretched axes are new ones: nothing yet says that their positions belong together."""
    source, shape = call.axes_of(call.tensors[0]), call.output.shape
    padded = (ONE,) * (len(shape) - len(source)) + source
    axes = [a if a.size == n else call.axes.leaf(n) for a, n in zip(padded, shape, strict=True)]
    return [tuple(axes)]


def _expand_as_axes(call: Typing) -> list[Shape]:
    source, other = (call.axes_of(v) for v in call.tensors)
    padded = (ONE,) * (len(other) - len(source)) + source
    return [
        tuple(b if a.size == 1 else call.same(a, b) for a, b in zip(padded, other, strict=True))
    ]


# A stretched axis repeats values that its units do not own.
_EXPAND = Operator(axes=_expand_axes, zero=first_state, aliases=True, reshapes=True)
register("aten.expand aten.broadcast_to", replace(_EXPAND, resize=shape_resize))
register("aten.expand_as", replace(_EXPAND, axes=_expand_as_axes, homogeneous=of_first))


def _meshgrid_axes(call: Typing) -> list[Shape]:
    """Every output has one axis of each input; `xy` swaps the first two."""
    axes = [axis for v in call.tensors for axis in call.axes_of(v) or (ONE,)]
    if call.get("indexing") == "xy" and len(axes) > 1:
        axes[:2] = axes[1::-1]
    return [tuple(axes)] * len(call.node.outputs)


register("aten.broadcast_tensors", Operator(axes=elementwise_axes, zero=joined_state, moves=True))


def _powers_axes(call: Typing) -> list[Shape]:
    """`... n -> ... n p`: powers of each element."""
    axes = call.axes_of(call.tensors[0]) or (ONE,)
    return [(*axes, call.fixed(call.output.shape[-1], "powers"))]


def _powers_resize(call: Sizing) -> Resized:
    """As many powers as there were, where by default there are as many as elements."""
    axes = call.axes_of(call.tensors[0])[-1:]
    if call.get("N") is not None or all(call.size(axis) == axis.size for axis in axes):
        return Resized()
    return Resized({"N": call.output.shape[-1]})


register(
    "aten.vander aten.linalg_vander",
    Operator(
        axes=_powers_axes,
        zero=never_zero,
        resize=_powers_resize,
    ),
)
register("aten.meshgrid", Operator(axes=_meshgrid_axes, zero=joined_state, moves=True))


def _repeat_axes(call: Typing) -> list[Shape]:
    """Tiling puts the copies outside: `c -> r x c`, of which there may be fewer."""
    source = call.axes_of(call.tensors[0])
    repeats = call.integers("repeats", call.integers("dims"))
    rank = max(len(repeats), len(source))
    padded = (ONE,) * (rank - len(source)) + source
    repeats = (1,) * (rank - len(repeats)) + repeats
    return [tuple(ax.prod(call.axes.leaf(r), a) for r, a in zip(repeats, padded, strict=True))]


def _repeat_resize(call: Sizing) -> Resized:
    name = "repeats" if "repeats" in call.node.arguments else "dims"
    source, output = call.axes_of(call.tensors[0]), call.axes_of(call.output)
    entries = call.node.arguments[name]
    assert isinstance(entries, tuple)
    new = list(entries)
    for i in range(1, len(entries) + 1):
        axis = source[-i] if i <= len(source) else ONE
        new[-i] = _copies(call, axis, output[-i], entries[-i])
    return Resized({name: tuple(new)})


def _copies(call: Sizing, axis: Axis, repeated: Axis, count: Argument) -> Argument:
    """How often `axis` is repeated after the cut."""
    if axis.size == 0 or call.size(repeated) * axis.size == call.size(axis) * repeated.size:
        return count
    return call.size(repeated) // call.size(axis)


def _repeat_interleave_axes(call: Typing) -> list[Shape]:
    """Every element is repeated in place, so the copies are inside: `c -> c x r`."""
    source = call.axes_of(call.tensors[0])
    dim, count = call.get("dim"), call.get("repeats")
    if not isinstance(dim, int) or not isinstance(count, int):
        for axis in source:
            call.pin(axis, "repeated a varying number of times")
        return [tuple(call.fixed(n, "repeated") for n in call.output.shape)]
    shape = list(source)
    shape[dim] = ax.prod(shape[dim], call.axes.leaf(count))
    return [tuple(shape)]


def _repeat_interleave_resize(call: Sizing) -> Resized:
    dim, count = call.get("dim"), call.get("repeats")
    if not isinstance(dim, int) or not isinstance(count, int):
        return Resized()
    axis, repeated = call.axes_of(call.tensors[0])[dim], call.axes_of(call.output)[dim]
    arguments = {"repeats": _copies(call, axis, repeated, count)}
    if call.get("output_size") is not None:
        arguments["output_size"] = call.size(repeated)
    return Resized(arguments)


register(
    "aten.repeat aten.tile",
    Operator(axes=_repeat_axes, zero=first_state, resize=_repeat_resize, moves=True),
)
register(
    "aten.repeat_interleave",
    Operator(
        axes=_repeat_interleave_axes, zero=first_state, resize=_repeat_interleave_resize, moves=True
    ),
)
