"""Bags of embeddings, and indices as vectors."""

from __future__ import annotations

from autoprune.ops.pinning import fixed_shape, pin_tensors
from autoprune.ops.rule import Operator, any_state, register
from autoprune.ops.views import Shape, State, Typing, Zeroing


def _bag_axes(call: Typing) -> list[Shape]:
    """`v d, indices -> bags d`; the further outputs are positions."""
    rows, width = call.axes_of("weight")
    call.pin(rows, "looked up by index")
    for value in call.tensors:
        if value != call.tensor("weight"):
            pin_tensors(call, "which rows are summed", value)
    bags = call.fixed(call.output.shape[0], "bags of rows")
    rest = (fixed_shape(call, v.shape, "positions of bags") for v in call.node.outputs[1:])
    return [(bags, width), *rest]


def _bag_zero(call: Zeroing) -> State:
    return call.state(call.tensor("weight"))


register(
    "aten.embedding_bag",
    Operator(
        axes=_bag_axes, zero=_bag_zero, homogeneous=lambda call: ({call.tensor("weight"): 1.0},)
    ),
)


def _one_hot_axes(call: Typing) -> list[Shape]:
    """`... -> ... classes`."""
    classes = call.fixed(call.output.shape[-1], "classes of an index")
    return [(*call.axes_of("input"), classes)]


register("aten.one_hot", Operator(axes=_one_hot_axes, zero=any_state))
