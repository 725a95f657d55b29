"""Look-ups: the indexed axis is pinned, the others pass."""

from __future__ import annotations

from itertools import pairwise

from autoprune.ir.axes import ONE, Axis
from autoprune.ir.contraction import Contraction
from autoprune.ir.graph import Value
from autoprune.ops.elementwise import broadcast
from autoprune.ops.pinning import fixed_shape, line_up, pin_tensors
from autoprune.ops.rule import Operator, first_state, register
from autoprune.ops.views import Call, Shape, State, Typing, Zeroing

_REASON = "looked up by index"


def _embedding_axes(call: Typing) -> list[Shape]:
    """`v d, indices -> indices d`."""
    rows, width = call.axes_of("weight")
    call.pin(rows, _REASON)
    return [(*call.axes_of("indices"), width)]


def _embedding_zero(call: Zeroing) -> State:
    weight, indices = call.tensor("weight"), call.tensor("indices")
    return max(call.state(weight), State.ANY if call.carries(indices) else State.ZERO)


def _embedding(call: Call) -> Contraction:
    """A one for each index, times the table."""
    weight, indices = call.tensor("weight"), call.tensor("indices")
    places = tuple((f"n{i}",) for i in range(len(indices.shape)))
    operands = ((indices, places), (weight, (("v",), ("d",))))
    return Contraction(operands, (*places, ("d",)), index="v")


register(
    "aten.embedding",
    Operator(axes=_embedding_axes, zero=_embedding_zero, product=_embedding, moves=True),
)


def indexed_dims(call: Call) -> tuple[list[int], list[Value]]:
    """The dimensions that the argument `indices` indexes, and the tensors it does so with."""
    indices = call.get("indices")
    indexed: list[int] = []
    tensors: list[Value] = []
    dim = 0
    for entry in indices if isinstance(indices, tuple) else (indices,):
        width = 1
        if isinstance(entry, Value):
            tensors.append(entry)
            width = len(entry.shape) if entry.dtype == "bool" else 1
            indexed.extend(range(dim, dim + width))
        dim += width
    return indexed, tensors


def _index_axes(call: Typing) -> list[Shape]:
    """`x[:, i, j]`: the axes of the indices replace the indexed ones.

    They come where the first one was, or in front if the indices are not side by side.
    """
    source = call.axes_of("input")
    indexed, tensors = indexed_dims(call)
    pin_tensors(call, _REASON, *tensors)
    for i in indexed:
        call.pin(source[i], _REASON)
    adjacent = all(b - a == 1 for a, b in pairwise(indexed))
    first = indexed[0] if adjacent and indexed else 0
    rest: list[Axis] = [a for i, a in enumerate(source) if i not in indexed]
    count = len(call.output.shape) - len(rest)
    found = [call.fixed(n, _REASON) for n in call.output.shape[first : first + count]]
    return [(*rest[:first], *found, *rest[first:])]


register("aten.index aten._unsafe_index", Operator(axes=_index_axes, zero=first_state, moves=True))


def _index_select_axes(call: Typing) -> list[Shape]:
    pin_tensors(call, _REASON, "index")
    shape = list(call.axes_of("input"))
    if not shape:
        return [()]
    dim = call.integer("dim") % len(shape)
    call.pin(shape[dim], _REASON)
    shape[dim] = call.fixed(call.output.shape[dim], _REASON)
    return [tuple(shape)]


register("aten.index_select", Operator(axes=_index_select_axes, zero=first_state, moves=True))


def _gather_axes(call: Typing) -> list[Shape]:
    """Dimensions other than `dim` line up with those of the index, if they are as long."""
    source, index = call.axes_of("input"), call.axes_of("index")
    if len(source) == len(index):
        line_up(call, source, index, (call.integer("dim"),), _REASON)
    else:  # a number, or an index of nothing
        pin_tensors(call, _REASON, *call.tensors)
    return [call.axes_of("index")]


register("aten.gather", Operator(axes=_gather_axes, zero=first_state, moves=True))


def _take_along_dim_axes(call: Typing) -> list[Shape]:
    """Like gather, with the other dimensions broadcast; of flattened tensors without `dim`."""
    source, index = call.axes_of("input"), call.axes_of("indices")
    if call.get("dim") is None:
        pin_tensors(call, _REASON, *call.tensors)
        return [fixed_shape(call, call.output.shape, _REASON)]
    dim = call.integer("dim") % len(source)
    for axis in (source[dim], index[dim]):
        call.pin(axis, _REASON)
    shape = broadcast(call, [(*s[:dim], ONE, *s[dim + 1 :]) for s in (source, index)])
    return [(*shape[:dim], index[dim], *shape[dim + 1 :])]


register("aten.take_along_dim", Operator(axes=_take_along_dim_axes, zero=first_state, moves=True))


def _take_axes(call: Typing) -> list[Shape]:
    """Positions of the flattened tensor are looked up."""
    pin_tensors(call, _REASON, "input")
    return [call.axes_of("index")]


register("aten.take", Operator(axes=_take_axes, zero=first_state, moves=True))
