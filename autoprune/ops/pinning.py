"""Operators that mix the positions of an axis in a way no cut can follow: that axis is pinned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autoprune.ops.rule import Operator
from autoprune.ops.views import Shape, State, Typing, Zeroing

Dims = Callable[[Typing], Iterable[int]]


def pin_dims(call: Typing, shape: Shape, dims: Iterable[int], reason: str) -> None:
    """Pin these dimensions of a value."""
    for dim in dims:
        call.pin(shape[dim], reason)


def fixed_shape(call: Typing, shape: Sequence[int], reason: str) -> Shape:
    """New axes of these sizes, none of which can be cut."""
    return tuple(call.fixed(n, reason) for n in shape)


def mixed_axes(call: Typing, dims: Iterable[int], reason: str) -> list[Shape]:
    """Outputs with the axes of the first tensor, but for those of `dims`, which are mixed.

    Other tensors are pinned.
    """
    first, *others = call.tensors
    source = call.axes_of(first)
    mixed = {d % len(source) for d in dims} if source else set[int]()
    pin_dims(call, source, mixed, reason)
    for value in others:
        pin_dims(call, call.axes_of(value), range(len(value.shape)), reason)
    return [
        tuple(
            call.fixed(n, reason) if i in mixed else axis
            for i, (axis, n) in enumerate(zip(source, value.shape, strict=True))
        )
        for value in call.node.outputs
    ]


def mixing(dims: Dims, reason: str, zero: Callable[[Zeroing], State], **traits: Any) -> Operator:
    """An operator that keeps the rank of its first tensor and mixes the positions of `dims`."""
    return Operator(axes=lambda call: mixed_axes(call, dims(call), reason), zero=zero, **traits)


def pinning(
    reason: str, zero: Callable[[Zeroing], State] = lambda call: State.ANY, **traits: Any
) -> Operator:
    """An operator through which no axis can be followed."""

    def axes(call: Typing) -> list[Shape]:
        for value in call.tensors:
            pin_dims(call, call.axes_of(value), range(len(value.shape)), reason)
        return [fixed_shape(call, v.shape, reason) for v in call.node.outputs]

    return Operator(axes=axes, zero=zero, **traits)


def named_dims(call: Typing, name: str = "dim") -> tuple[int, ...]:
    """The dimensions an argument names, all of them where it names none."""
    rank = len(call.tensors[0].shape)
    if call.get(name) is None:
        return tuple(range(rank))
    return tuple(d % rank for d in call.integers(name)) if rank else ()
