"""The borders of vectorized calls."""

from __future__ import annotations

from autoprune.ops.rule import Operator, first_state, register
from autoprune.ops.views import Shape, Typing


def _mapped_axes(call: Typing) -> list[Shape]:
    """`vmap` takes the axis it maps over out of sight."""
    shape = call.axes_of(call.tensors[0])
    dim = call.integer("batch_dim") % len(shape)
    call.pin(shape[dim], "a function is mapped over it")
    return [(*shape[:dim], *shape[dim + 1 :])]


def _gathered_axes(call: Typing) -> list[Shape]:
    """The results of `vmap` get the axis back."""
    shape, dim = call.axes_of(call.tensors[0]), call.integer("out_dim")
    dim %= len(shape) + 1
    mapped = call.fixed(call.output.shape[dim], "results of a mapped function")
    return [(*shape[:dim], mapped, *shape[dim:])]


register(
    "torch._functorch.predispatch._add_batch_dim",
    Operator(axes=_mapped_axes, zero=first_state, aliases=True),
)
register(
    "torch._functorch.predispatch._remove_batch_dim",
    Operator(axes=_gathered_axes, zero=first_state, aliases=True),
)
