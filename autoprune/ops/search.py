"""Operators that search: what comes out is where a value was found."""

from __future__ import annotations

from autoprune.ops.pinning import pin_dims, pin_tensors
from autoprune.ops.rule import Operator, joined, register
from autoprune.ops.views import Shape, State, Typing, Zeroing


def _found(call: Zeroing) -> State:
    """Where zero is found depends on what is searched."""
    return max(State.CONSTANT, joined(call, call.tensors))


def _bucketize_axes(call: Typing) -> list[Shape]:
    """Each element is searched for in the boundaries."""
    pin_tensors(call, "boundaries that are searched", "boundaries")
    return [call.axes_of("input") if call.value("input") is not None else ()]


def _searchsorted_axes(call: Typing) -> list[Shape]:
    """Rows are searched in their own sequence, or all elements in the only one there is."""
    sequence = call.axes_of("sorted_sequence")
    pin_dims(call, sequence, (-1,), "a sequence that is searched")
    pin_tensors(call, "a sequence in order", "sorter")
    if call.value("input") is None:
        return [()]
    wanted = call.axes_of("input")
    if len(sequence) > 1:
        call.align(sequence[:-1], wanted[:-1])
    return [wanted]


def _isin_axes(call: Typing) -> list[Shape]:
    pin_tensors(call, "elements that are searched", "test_elements")
    elements = call.value("elements")
    return [() if elements is None else call.axes_of(elements)]


register("aten.bucketize", Operator(axes=_bucketize_axes, zero=_found, saturates=True))
register("aten.searchsorted", Operator(axes=_searchsorted_axes, zero=_found, saturates=True))
register("aten.isin", Operator(axes=_isin_axes, zero=_found, saturates=True))
