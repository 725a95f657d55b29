"""Products of other kinds than matrix multiplication: outer, bilinear, by group, vector."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from autoprune.ir import axes as ax
from autoprune.ir.axes import ONE
from autoprune.ir.contraction import Contraction, Dim, Window
from autoprune.ir.graph import Value
from autoprune.ops.elementwise import broadcast
from autoprune.ops.letters import contracting, in_letters, scaled
from autoprune.ops.pinning import pin_dims
from autoprune.ops.rule import Cost, Operator, product_state, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing


def _numbered(count: int, letter: str) -> tuple[Dim, ...]:
    return tuple((f"{letter}{i}",) for i in range(count))


def _outer(call: Call) -> Contraction:
    return in_letters("i, o -> i o", call.tensor("input"), call.tensor("vec2"))


def _addr(call: Call) -> Contraction:
    a, b, added = (call.tensor(name) for name in ("vec1", "vec2", "input"))
    return scaled(in_letters("i, o -> i o", a, b, plus=added), call, "alpha", "beta")


def _inner(call: Call) -> Contraction:
    """`... i, ... i -> ... ...`: the batches stay apart."""
    a, b = call.tensor("input"), call.tensor("other")
    if not a.shape or not b.shape:  # a number times a tensor
        left, right = _numbered(len(a.shape), "m"), _numbered(len(b.shape), "o")
        return Contraction(((a, left), (b, right)), (*left, *right))
    left, right = _numbered(len(a.shape) - 1, "m"), _numbered(len(b.shape) - 1, "o")
    return Contraction(((a, (*left, ("i",))), (b, (*right, ("i",)))), (*left, *right))


def _vdot(call: Call) -> Contraction:
    a, b = call.tensor("input"), call.tensor("other")
    return in_letters("i, i ->", a, b, also=_conjugated(a))


def _conjugated(value: Value) -> str:
    return "the first factor is conjugated" if value.dtype.startswith("complex") else ""


def _vecdot(call: Call) -> Contraction:
    """The product of every pair of vectors along `dim`."""
    values = (call.tensor("x"), call.tensor("y"))
    rank = max(len(v.shape) for v in values)
    dim = call.integer("dim", -1) % rank
    dims = _numbered(rank, "d")
    return Contraction(
        tuple((v, dims[rank - len(v.shape) :]) for v in values),
        (*dims[:dim], *dims[dim + 1 :]),
        also=_conjugated(values[0]),
    )


def _tensordot(call: Call) -> Contraction:
    a, b = call.tensor("input"), call.tensor("other")
    left, right = list(_numbered(len(a.shape), "m")), list(_numbered(len(b.shape), "o"))
    summed = zip(call.integers("dims_self"), call.integers("dims_other"), strict=True)
    for i, (p, q) in enumerate(summed):
        left[p] = right[q] = (f"s{i}",)
    output = [dim for dim in (*left, *right) if not dim[0].startswith("s")]
    return Contraction(((a, tuple(left)), (b, tuple(right))), tuple(output))


def _bilinear(call: Call) -> Contraction:
    operands = (call.tensor(name) for name in ("input1", "input2", "weight"))
    return in_letters("... i, ... j, o i j -> ... o", *operands, plus=call.value("bias"))


def _addbmm(call: Call) -> Contraction:
    """The products of a batch, summed."""
    a, b, added = (call.tensor(name) for name in ("batch1", "batch2", "input"))
    return scaled(in_letters("n m i, n i o -> m o", a, b, plus=added), call, "alpha", "beta")


def _chain(call: Call) -> Contraction:
    """The product of several matrices; a vector may stand at either end."""
    operands: list[tuple[Value, tuple[Dim, ...]]] = []
    for i, value in enumerate(call.tensors):
        dims: tuple[Dim, ...] = ((f"c{i}",), (f"c{i + 1}",))
        if len(value.shape) == 1:
            dims = dims[1:] if i == 0 else dims[:1]
        operands.append((value, dims))
    inner = {dim for (_, left), (_, right) in pairwise(operands) for dim in left if dim in right}
    ends = [dim for _, dims in operands for dim in dims if dim not in inner]
    return Contraction(tuple(operands), tuple(ends))


def _convolution_of_sequences(call: Call) -> Contraction:
    """`t n i, k i o -> t' n o`."""
    window = Window("t", "u", "k", before=call.integer("pad"), after=call.integer("pad"))
    operands = (call.tensor("input"), call.tensor("weight"))
    bias = call.value("bias")
    return in_letters("t n i, k i o -> u n o", *operands, plus=bias, windows=(window,))


register("aten.outer aten.ger", contracting(_outer))
register("aten.addr", contracting(_addr))
register("aten.inner", contracting(_inner))
register("aten.vdot", contracting(_vdot))
register("aten.linalg_vecdot", contracting(_vecdot))
register("aten.tensordot", contracting(_tensordot))
register("aten.bilinear", contracting(_bilinear))
register("aten.addbmm", contracting(_addbmm))
register("aten.chain_matmul aten.linalg_multi_dot", contracting(_chain))
register("aten.conv_tbc", contracting(_convolution_of_sequences))


def _grouped(call: Call) -> Contraction:
    """Matrices of groups, of which `offs` says which rows (or columns) belong to which group."""
    second = "mat2" if "mat2" in call.node.arguments else "weight"
    a, b = call.tensor("input"), call.tensor(second)
    left = "g m i" if len(a.shape) == 3 else "m i"
    right = "g i o" if len(b.shape) == 3 else "i o"
    batch = "g" if len(a.shape) == len(b.shape) else ""
    text = f"{left}, {right} -> {batch} m o"
    return in_letters(text, a, b, also="rows are dealt out to groups")


def _grouped_axes(call: Typing) -> list[Shape]:
    """The groups are pinned, and the dimension that the offsets divide.

    Kernels want rows that fill 16 bytes, so the others are cut in blocks of that size.
    """
    (a, left), (b, right) = _grouped(call).operands
    divided = {(2, 3): "m", (3, 2): "o", (2, 2): "i", (3, 3): ""}[len(a.shape), len(b.shape)]
    for value, dims in ((a, left), (b, right)):
        for axis, (letter,) in zip(call.axes_of(value), dims, strict=True):
            if letter in ("g", divided):
                call.pin(axis, "rows are dealt out to groups")
            elif axis.size % _block(value) == 0:
                sizes = (axis.size // _block(value), _block(value))
                call.pin(call.axes.factor(axis, sizes)[1], "rows must fill 16 bytes")
    offsets, bias = call.value("offs"), call.value("bias")
    if offsets is not None:
        pin_dims(call, call.axes_of(offsets), (0,), "rows are dealt out to groups")
    (shape,) = _GROUPED.axes(call)
    if bias is not None:
        broadcast(call, [shape[-1:], call.axes_of(bias)[-1:]])
    return [shape]


def _block(value: Value) -> int:
    """Elements in 16 bytes."""
    bits = int("".join(c for c in value.dtype if c.isdigit()) or "32")
    return max(128 // bits, 1)


def _grouped_zero(call: Zeroing) -> State:
    state, bias = _GROUPED.zero(call), call.value("bias")
    return state if bias is None else max(state, call.state(bias))


def _grouped_cost(call: Call) -> Cost:
    """Every row is in one group."""
    return ((2, (*call.axes_of(call.output), call.axes_of("input")[-1])),)


_GROUPED = contracting(_grouped, cost=_grouped_cost)
register(
    "aten._grouped_mm transformers.grouped_mm_fallback",
    replace(_GROUPED, axes=_grouped_axes, zero=_grouped_zero),
)


def _cross_dim(call: Call) -> int:
    """Where the vectors are; in the first dimension of three elements if that is not said."""
    sizes = call.output.shape
    default = -1 if "linalg" in call.node.op else sizes.index(3)
    return call.integer("dim", default) % len(sizes)


def _cross_axes(call: Typing) -> list[Shape]:
    """Vectors of three are multiplied."""
    shape = broadcast(call, [call.axes_of(v) for v in call.tensors])
    call.pin(shape[_cross_dim(call)], "a vector of three")
    return [shape]


def _cross_resize(call: Sizing) -> Resized:
    """Another dimension may come to have three elements."""
    return Resized() if call.get("dim") is not None else Resized({"dim": _cross_dim(call)})


def _kron_axes(call: Typing) -> list[Shape]:
    """Every dimension is the product of those of the operands."""
    left, right = (call.axes_of(name) for name in ("input", "other"))
    rank = max(len(left), len(right))
    pairs = zip(*((*(ONE,) * (rank - len(s)), *s) for s in (left, right)), strict=True)
    return [tuple(ax.prod(a, b) for a, b in pairs)]


_PRODUCT = Operator(axes=_kron_axes, zero=product_state)
register("aten.kron", _PRODUCT)
register("aten.cross aten.linalg_cross", replace(_PRODUCT, axes=_cross_axes, resize=_cross_resize))
