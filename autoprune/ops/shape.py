"""Operators that rename, reorder, join and cut axes without touching the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autoprune.ir import axes as ax
from autoprune.ir.axes import ONE, Axis
from autoprune.ir.graph import Argument, Value
from autoprune.ops.elementwise import broadcast
from autoprune.ops.rule import (
    Call,
    Operator,
    Resized,
    Shape,
    Sizing,
    State,
    Typing,
    Zeroing,
    carried,
    no_axes,
    register,
)


def passes_on(call: Zeroing) -> State:
    """The outputs hold what the inputs held."""
    return carried(call, call.tensors)


def reshaped(call: Typing, source: Sequence[Axis], sizes: Sequence[int]) -> Shape:
    """The axes of a row-major reshape of `source` to `sizes`.

    Runs of axes with equal products are matched, so that untouched axes stay themselves:
    `(n, 768) -> (n, 12, 64)` only looks inside the 768.
    """
    result: list[Axis] = []
    todo = [axis for axis in source if axis.size != 1]
    wanted = [n for n in sizes if n != 1]
    i = j = 0
    while i < len(todo) and j < len(wanted):
        left, right = [todo[i]], [wanted[j]]
        a, b = todo[i].size, wanted[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b and i < len(todo):
                left.append(todo[i])
                a *= todo[i].size
                i += 1
            elif b < a and j < len(wanted):
                right.append(wanted[j])
                b *= wanted[j]
                j += 1
            else:
                break
        if len(right) == 1:
            result.append(ax.prod(*left))
        else:
            result.extend(call.axes.factor(ax.prod(*left), right, call.where))
    parts = iter(result)
    return tuple(ONE if n == 1 else next(parts) for n in sizes)


def _reshape_axes(call: Typing) -> list[Shape]:
    source, output = call.axes_of(call.tensors[0]), call.output
    if 0 in output.shape:
        return [tuple(call.fixed(n, "an empty tensor") for n in output.shape)]
    return [reshaped(call, source, output.shape)]


def _shape_resize(call: Sizing) -> Resized:
    for name in ("shape", "size"):
        if name in call.node.arguments:
            return Resized({name: call.resized(name, call.axes_of(call.output))})
    return Resized()


def _unflatten_resize(call: Sizing) -> Resized:
    dim = call.integer("dim") % len(call.tensors[0].shape)
    count = len(call.integers("sizes"))
    return Resized({"sizes": call.resized("sizes", call.axes_of(call.output)[dim : dim + count])})


register(
    "aten.view.default aten.reshape aten._unsafe_view",
    Operator(axes=_reshape_axes, zero=passes_on, resize=_shape_resize, aliases=True, mixes=no_axes),
)
register(
    "aten.flatten aten.ravel aten.unsqueeze aten.atleast_1d aten.atleast_2d aten.atleast_3d",
    Operator(axes=_reshape_axes, zero=passes_on, aliases=True, mixes=no_axes),
)


def _reshape_as_axes(call: Typing) -> list[Shape]:
    (shape,) = _reshape_axes(call)
    return [tuple(call.same(a, b) for a, b in zip(shape, call.axes_of("other"), strict=True))]


def _squeeze_resize(call: Sizing) -> Resized:
    """An axis that the cut leaves at size one is not one that was to be squeezed."""
    axes = call.axes_of(call.tensors[0])
    if all(axis.size == 1 or call.size(axis) > 1 for axis in axes):
        return Resized()
    named = call.integers("dim", tuple(range(len(axes))))
    dims = tuple(d for d in named if axes[d].size == 1)
    return Resized({"dim": dims}, op="aten.squeeze.dims")


register(
    "aten.squeeze",
    Operator(
        axes=_reshape_axes, zero=passes_on, resize=_squeeze_resize, aliases=True, mixes=no_axes
    ),
)
register(
    "aten.view_as aten.reshape_as",
    Operator(
        axes=_reshape_as_axes,
        zero=lambda call: call.state(call.tensors[0]),
        aliases=True,
        mixes=no_axes,
    ),
)
register(
    "aten.unflatten",
    Operator(
        axes=_reshape_axes, zero=passes_on, resize=_unflatten_resize, aliases=True, mixes=no_axes
    ),
)


def _permuted(call: Typing, order: Sequence[int]) -> list[Shape]:
    source = call.axes_of(call.tensors[0])
    return [tuple(source[d % len(source)] for d in order)]


def _permute_axes(call: Typing) -> list[Shape]:
    return _permuted(call, call.integers("dims"))


def _transpose_axes(call: Typing) -> list[Shape]:
    rank = len(call.tensors[0].shape)
    a = call.integer("dim0", call.integer("axis0", 0)) % rank
    b = call.integer("dim1", call.integer("axis1", 1)) % rank
    order = list(range(rank))
    order[a], order[b] = b, a
    return _permuted(call, order)


def _reverse_axes(call: Typing) -> list[Shape]:
    return _permuted(call, tuple(reversed(range(len(call.tensors[0].shape)))))


def _matrix_transpose_axes(call: Typing) -> list[Shape]:
    rank = len(call.tensors[0].shape)
    return _permuted(call, [*range(rank - 2), rank - 1, rank - 2])


def _movedim_axes(call: Typing) -> list[Shape]:
    rank = len(call.tensors[0].shape)
    source = [d % rank for d in call.integers("source")]
    target = [d % rank for d in call.integers("destination")]
    order: list[int | None] = [None] * rank
    for s, t in zip(source, target, strict=True):
        order[t] = s
    rest = iter(d for d in range(rank) if d not in source)
    return _permuted(call, [next(rest) if d is None else d for d in order])


for _names, _axes in (
    ("aten.permute", _permute_axes),
    ("aten.transpose aten.swapaxes aten.swapdims", _transpose_axes),
    ("aten.t aten.numpy_T", _reverse_axes),
    ("aten.mT aten.mH aten.adjoint aten.matrix_H", _matrix_transpose_axes),
    ("aten.movedim aten.moveaxis", _movedim_axes),
):
    register(_names, Operator(axes=_axes, zero=passes_on, aliases=True, mixes=no_axes))


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


def _stretched_state(call: Zeroing) -> State:
    """A stretched axis repeats values that its units do not own."""
    return call.state(call.tensors[0])


register(
    "aten.expand aten.broadcast_to",
    Operator(
        axes=_expand_axes, zero=_stretched_state, resize=_shape_resize, aliases=True, mixes=no_axes
    ),
)
register(
    "aten.expand_as",
    Operator(axes=_expand_as_axes, zero=_stretched_state, aliases=True, mixes=no_axes),
)


def _broadcast_tensors_axes(call: Typing) -> list[Shape]:
    """All become as large as their broadcast."""
    return [broadcast(call, [call.axes_of(v) for v in call.tensors])] * len(call.node.outputs)


def _meshgrid_axes(call: Typing) -> list[Shape]:
    """Every output has one axis of each input; `xy` swaps the first two."""
    axes = [axis for v in call.tensors for axis in call.axes_of(v) or (ONE,)]
    if call.get("indexing") == "xy" and len(axes) > 1:
        axes[:2] = axes[1::-1]
    return [tuple(axes)] * len(call.node.outputs)


def _all_states(call: Zeroing) -> State:
    return max(call.state(v) for v in call.tensors)


register(
    "aten.broadcast_tensors",
    Operator(axes=_broadcast_tensors_axes, zero=_all_states, mixes=no_axes),
)
register("aten.meshgrid", Operator(axes=_meshgrid_axes, zero=_all_states, mixes=no_axes))


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
    Operator(axes=_repeat_axes, zero=_stretched_state, resize=_repeat_resize, mixes=no_axes),
)
register(
    "aten.repeat_interleave",
    Operator(
        axes=_repeat_interleave_axes,
        zero=_stretched_state,
        resize=_repeat_interleave_resize,
        mixes=no_axes,
    ),
)


def _joined_others(call: Typing, shapes: Sequence[Shape], dim: int) -> list[Axis]:
    """All axes but `dim` are the same in every operand."""
    result = list(shapes[0])
    for shape in shapes[1:]:
        for i, axis in enumerate(shape):
            if i != dim:
                result[i] = call.same(result[i], axis)
    return result


def _cat_axes(call: Typing) -> list[Shape]:
    rank = len(call.output.shape)
    shapes = [s for s in (call.axes_of(v) for v in call.tensors) if len(s) == rank]
    dim = call.integer("dim", 0) % rank
    return _joined(call, shapes, dim)


def _stack_axes(call: Typing) -> list[Shape]:
    shapes = [call.axes_of(v) for v in call.tensors]
    dim = call.integer("dim", 0) % (len(shapes[0]) + 1)
    result = _joined_others(call, shapes, -1)
    result.insert(dim, ax.singles(len(shapes)))
    return [tuple(result)]


register(
    "aten.cat aten.concat aten.concatenate", Operator(axes=_cat_axes, zero=passes_on, mixes=no_axes)
)
register("aten.stack", Operator(axes=_stack_axes, zero=passes_on, mixes=no_axes))


def _as_rank(shape: Shape, rank: int) -> Shape:
    """Axes as `atleast_2d` and `atleast_3d` place those of smaller tensors."""
    if rank == 3 and len(shape) in (1, 2):
        return (*_as_rank(shape, 2), ONE)
    return (ONE,) * (rank - len(shape)) + shape


def _hstack_axes(call: Typing) -> list[Shape]:
    """Joined along the second dimension, vectors along the first."""
    shapes = [_as_rank(call.axes_of(v), 1) for v in call.tensors]
    return _joined(call, shapes, 0 if len(shapes[0]) == 1 else 1)


def _vstack_axes(call: Typing) -> list[Shape]:
    return _joined(call, [_as_rank(call.axes_of(v), 2) for v in call.tensors], 0)


def _dstack_axes(call: Typing) -> list[Shape]:
    return _joined(call, [_as_rank(call.axes_of(v), 3) for v in call.tensors], 2)


def _column_stack_axes(call: Typing) -> list[Shape]:
    """Vectors are columns."""
    shapes = [call.axes_of(v) for v in call.tensors]
    return _joined(call, [s if len(s) > 1 else (*_as_rank(s, 1), ONE) for s in shapes], 1)


def _joined(call: Typing, shapes: Sequence[Shape], dim: int) -> list[Shape]:
    result = _joined_others(call, shapes, dim)
    result[dim] = ax.concat(*(shape[dim] for shape in shapes))
    return [tuple(result)]


for _names, _axes in (
    ("aten.hstack", _hstack_axes),
    ("aten.vstack aten.row_stack", _vstack_axes),
    ("aten.dstack", _dstack_axes),
    ("aten.column_stack", _column_stack_axes),
):
    register(_names, Operator(axes=_axes, zero=passes_on, mixes=no_axes))


_SPLIT_DIMS = {"hsplit": 1, "vsplit": 0, "dsplit": 2}


def _split_dim(call: Call) -> int:
    rank = len(call.tensors[0].shape)
    packet = call.node.op.split(".")[1]
    return min(_SPLIT_DIMS.get(packet, call.integer("dim", 0) % rank), rank - 1)


def _split_axes(call: Typing) -> list[Shape]:
    """A split looks inside the axis as a concatenation of its pieces."""
    source = call.axes_of(call.tensors[0])
    dim = _split_dim(call)
    sizes = [v.shape[dim] for v in call.node.outputs]
    pieces = call.axes.pieces(source[dim], sizes, call.where)
    return [(*source[:dim], piece, *source[dim + 1 :]) for piece in pieces]


def _split_resize(call: Sizing) -> Resized:
    """Pieces may end up of different sizes, which only a list of sizes can say."""
    dim = _split_dim(call)
    axes = [call.axes_of(v)[dim] for v in call.node.outputs]
    if all(call.size(axis) == axis.size for axis in axes):
        return Resized()
    sizes = tuple(call.size(axis) for axis in axes)
    return Resized({"split_sizes": sizes, "dim": dim}, op="aten.split_with_sizes.default")


register(
    "aten.split aten.split_with_sizes aten.chunk aten.tensor_split aten.unsafe_chunk "
    "aten.unsafe_split aten.unsafe_split_with_sizes aten.hsplit aten.vsplit aten.dsplit",
    Operator(axes=_split_axes, zero=passes_on, resize=_split_resize, aliases=True, mixes=no_axes),
)


def _unbind_axes(call: Typing) -> list[Shape]:
    """Every position of the axis gets a name of its own, so none of them can go."""
    source = call.axes_of(call.tensors[0])
    dim = call.integer("dim", 0) % len(source)
    _single_out(call, source[dim])
    return [(*source[:dim], *source[dim + 1 :])] * len(call.node.outputs)


def _single_out(call: Typing, axis: Axis) -> None:
    if not call.is_fixed(axis):
        call.axes.unify(axis, ax.singles(axis.size), call.where)


register("aten.unbind", Operator(axes=_unbind_axes, zero=passes_on, aliases=True, mixes=no_axes))


def slice_bounds(call: Call, size: int) -> tuple[int, int]:
    """Start and end of a slice as positions from the left."""
    if "length" in call.node.arguments:
        start = call.integer("start")
        start += size if start < 0 else 0
        return start, start + call.integer("length")
    start, end = call.integer("start", 0), call.integer("end", size)
    start, end = (n + size if n < 0 else n for n in (start, end))
    start = min(max(start, 0), size)
    return start, min(max(end, start), size)


def _slice_axes(call: Typing) -> list[Shape]:
    """`x[a:b]` looks inside the axis as before + piece + after."""
    source = call.axes_of(call.tensors[0])
    dim = call.integer("dim", 0) % len(source)
    axis = source[dim]
    start, end = slice_bounds(call, axis.size)
    if (start, end) == (0, axis.size) and call.integer("step", 1) == 1:
        return [source]
    if call.integer("step", 1) != 1 or call.is_fixed(axis):
        reason = "sliced with a step, or out of an axis that cannot be cut"
        call.pin(axis, reason)
        piece = call.fixed(call.output.shape[dim], reason)
    else:
        sizes = (start, end - start, axis.size - end)
        before, piece, after = call.axes.pieces(axis, sizes, call.where)
        call.unread.extend((before, after))
    return [(*source[:dim], piece, *source[dim + 1 :])]


def _slice_resize(call: Sizing) -> Resized:
    source = call.axes_of(call.tensors[0])
    dim = call.integer("dim", 0) % len(source)
    axis = source[dim]
    if call.size(axis) == axis.size:
        return Resized()
    start, end = slice_bounds(call, axis.size)
    if (start, end) == (0, axis.size):
        return Resized()
    first = call.before(axis, start)
    length = call.size(call.axes_of(call.output)[dim])
    if "length" in call.node.arguments:
        return Resized({"start": first, "length": length})
    return Resized({"start": first, "end": first + length})


register(
    "aten.slice aten.narrow",
    Operator(axes=_slice_axes, zero=passes_on, resize=_slice_resize, aliases=True, mixes=no_axes),
)


def _select_axes(call: Typing) -> list[Shape]:
    """`x[i]` singles out one position; those before and after it may still go."""
    source = call.axes_of(call.tensors[0])
    dim = call.integer("dim", 0) % len(source)
    axis = source[dim]
    if isinstance(call.get("index"), Value):
        call.pin(axis, "indexed by a computed position")
    elif not call.is_fixed(axis):
        index = call.integer("index") % axis.size
        before, _, after = call.axes.pieces(axis, (index, 1, axis.size - index - 1), call.where)
        call.unread.extend((before, after))
    return [(*source[:dim], *source[dim + 1 :])]


def _select_resize(call: Sizing) -> Resized:
    source = call.axes_of(call.tensors[0])
    axis = source[call.integer("dim", 0) % len(source)]
    if call.size(axis) == axis.size:
        return Resized()
    return Resized({"index": call.before(axis, call.integer("index") % axis.size)})


register(
    "aten.select.int",
    Operator(axes=_select_axes, zero=passes_on, resize=_select_resize, aliases=True, mixes=no_axes),
)


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


def _pad_state(call: Zeroing) -> State:
    state = passes_on(call) if call.carries(call.tensors[0]) else State.ZERO
    return max(state, call.state(call.get("value", 0)))


register(
    "aten.pad aten.constant_pad_nd",
    Operator(axes=_pad_axes, zero=_pad_state, resize=_pad_resize, mixes=no_axes),
)


def _rolled_axes(call: Typing) -> list[Shape]:
    shape = call.axes_of(call.tensors[0])
    packet = call.node.op.split(".")[1]
    named = {"fliplr": (1,), "flipud": (0,)}.get(packet) or call.integers("dims")
    for dim in named or range(len(shape)):
        call.pin(shape[dim], "positions are moved along the axis")
    return [shape]


register(
    "aten.roll aten.flip aten.fliplr aten.flipud",
    Operator(axes=_rolled_axes, zero=passes_on, mixes=no_axes),
)


def _pixel_shuffle_axes(call: Typing) -> list[Shape]:
    """`(n, c x r x r, h, w) -> (n, c, h x r, w x r)`: only whole output channels can go."""
    *batch, channels, height, width = call.axes_of(call.tensors[0])
    r = call.integer("upscale_factor")
    kept, down, right = call.axes.factor(channels, (channels.size // (r * r), r, r), call.where)
    for axis in (height, width, down, right):
        call.pin(axis, "becomes pixels")
    return [(*batch, kept, ax.prod(height, down), ax.prod(width, right))]


def _pixel_unshuffle_axes(call: Typing) -> list[Shape]:
    *batch, channels, height, width = call.axes_of(call.tensors[0])
    r = call.integer("downscale_factor")
    tall, down = call.axes.factor(height, (height.size // r, r), call.where)
    wide, right = call.axes.factor(width, (width.size // r, r), call.where)
    for axis in (tall, wide, down, right):
        call.pin(axis, "pixels become channels")
    return [(*batch, ax.prod(channels, down, right), tall, wide)]


def _channel_shuffle_axes(call: Typing) -> list[Shape]:
    batch, channels, *space = call.axes_of(call.tensors[0])
    groups = call.integer("groups")
    outer, inner = call.axes.factor(channels, (groups, channels.size // groups), call.where)
    call.pin(outer, "number of shuffled groups")
    return [(batch, ax.prod(inner, outer), *space)]


register("aten.pixel_shuffle", Operator(axes=_pixel_shuffle_axes, zero=passes_on, mixes=no_axes))
register(
    "aten.pixel_unshuffle", Operator(axes=_pixel_unshuffle_axes, zero=passes_on, mixes=no_axes)
)
register(
    "aten.channel_shuffle", Operator(axes=_channel_shuffle_axes, zero=passes_on, mixes=no_axes)
)


def _rot90_axes(call: Typing) -> list[Shape]:
    """A quarter turn swaps the two dimensions of the plane."""
    shape = call.axes_of(call.tensors[0])
    plane = call.integers("dims", (0, 1))
    for dim in plane:
        call.pin(shape[dim], "turned in a plane")
    order = list(range(len(shape)))
    if call.integer("k", 1) % 2:
        a, b = (d % len(shape) for d in plane)
        order[a], order[b] = b, a
    return [tuple(shape[d] for d in order)]


register("aten.rot90", Operator(axes=_rot90_axes, zero=passes_on, mixes=no_axes))


def _unfold_axes(call: Typing) -> list[Shape]:
    """Overlapping windows of one axis; their positions come last."""
    shape = list(call.axes_of(call.tensors[0])) or [ONE]
    dim = call.integer("dimension") % len(shape)
    call.pin(shape[dim], "a window slides over it")
    windows, size = call.output.shape[dim], call.output.shape[-1]
    shape[dim] = call.fixed(windows, "positions of a sliding window")
    return [(*shape, call.fixed(size, "positions inside a window"))]


register("aten.unfold", Operator(axes=_unfold_axes, zero=passes_on, aliases=True, mixes=no_axes))


def _retyped_axes(call: Typing) -> list[Shape]:
    """The bytes of the last axis are read anew where the types differ in width."""
    shape, output = call.axes_of(call.tensors[0]), call.output
    if output.shape == call.tensors[0].shape:
        return [shape]
    call.pin(shape[-1], "its bytes are read as another type")
    return [(*shape[:-1], call.fixed(output.shape[-1], "bytes read as another type"))]


register(
    "aten.view.dtype", Operator(axes=_retyped_axes, zero=passes_on, aliases=True, mixes=no_axes)
)
