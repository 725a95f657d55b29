"""Operators that search, count and select: how much comes out depends on the values."""

from __future__ import annotations

from autoprune.ops.pinning import pin_dims, pinning
from autoprune.ops.rule import Operator, joined, register
from autoprune.ops.views import Shape, State, Typing, Zeroing

register(
    "aten.nonzero aten.nonzero_static aten.argwhere aten.where.default aten.masked_select",
    pinning("elements are selected by their values"),
)
register(
    "aten._unique2 aten.unique_dim aten.unique_consecutive aten.bincount aten.histc aten.histogram "
    "aten.histogramdd aten.hash_tensor",
    pinning("values are counted"),
)
register("aten.segment_reduce", pinning("reduced in segments"))
register(
    "aten.cartesian_prod aten.combinations aten.block_diag aten.pad_sequence "
    "aten.diagflat aten._chunk_cat",
    pinning("every element of it gets a place of its own"),
)


def _found(call: Zeroing) -> State:
    """Where zero is found depends on what is searched."""
    return max(State.CONSTANT, joined(call, call.tensors))


def _bucketize_axes(call: Typing) -> list[Shape]:
    """Each element is searched for in the boundaries."""
    for axis in call.axes_of("boundaries"):
        call.pin(axis, "boundaries that are searched")
    return [call.axes_of("input") if call.value("input") is not None else ()]


def _searchsorted_axes(call: Typing) -> list[Shape]:
    """Rows are searched in their own sequence, or all elements in the only one there is."""
    sequence = call.axes_of("sorted_sequence")
    pin_dims(call, sequence, (-1,), "a sequence that is searched")
    sorter = call.value("sorter")
    if sorter is not None:
        pin_dims(call, call.axes_of(sorter), range(len(sorter.shape)), "a sequence in order")
    if call.value("input") is None:
        return [()]
    wanted = call.axes_of("input")
    if len(sequence) > 1:
        for a, b in zip(sequence[:-1], wanted[:-1], strict=True):
            call.same(a, b)
    return [wanted]


def _isin_axes(call: Typing) -> list[Shape]:
    known = call.value("test_elements")
    if known is not None:
        pin_dims(call, call.axes_of(known), range(len(known.shape)), "elements that are searched")
    elements = call.value("elements")
    return [() if elements is None else call.axes_of(elements)]


register("aten.bucketize", Operator(axes=_bucketize_axes, zero=_found, saturates=True))
register("aten.searchsorted", Operator(axes=_searchsorted_axes, zero=_found, saturates=True))
register("aten.isin", Operator(axes=_isin_axes, zero=_found, saturates=True))
