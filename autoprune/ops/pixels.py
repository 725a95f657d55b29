"""Operators that turn channels into pixels or the other way round, and shuffle them."""

from __future__ import annotations

from autoprune.ir import axes as ax
from autoprune.ops.rule import Operator, passes_on, register
from autoprune.ops.views import Call, Shape, Typing


def _block(call: Call) -> tuple[int, bool]:
    """Pixels along each side of a block, and whether they come before the channels."""
    names = ("upscale_factor", "downscale_factor", "blocksize")
    size = next(call.integer(name) for name in names if name in call.node.arguments)
    return size, "blocksize" in call.node.arguments and call.get("mode", "DCR") != "CRD"


def _shuffled_axes(call: Typing) -> list[Shape]:
    """`n (c r r) h w -> n c (h r) (w r)`, or `n (r r c) h w`: only whole channels can go."""
    *batch, channels, height, width = call.axes_of(call.tensors[0])
    r, first = _block(call)
    depth = channels.size // (r * r)
    if first:
        down, right, kept = call.axes.factor(channels, (r, r, depth))
    else:
        kept, down, right = call.axes.factor(channels, (depth, r, r))
    for axis in (height, width, down, right):
        call.pin(axis, "becomes pixels")
    return [(*batch, kept, ax.prod(height, down), ax.prod(width, right))]


def _unshuffled_axes(call: Typing) -> list[Shape]:
    """The other way round."""
    *batch, channels, height, width = call.axes_of(call.tensors[0])
    r, first = _block(call)
    tall, down = call.axes.factor(height, (height.size // r, r))
    wide, right = call.axes.factor(width, (width.size // r, r))
    for axis in (tall, wide, down, right):
        call.pin(axis, "pixels become channels")
    parts = (down, right, channels) if first else (channels, down, right)
    return [(*batch, ax.prod(*parts), tall, wide)]


def _channel_shuffle_axes(call: Typing) -> list[Shape]:
    batch, channels, *space = call.axes_of(call.tensors[0])
    groups = call.integer("groups")
    outer, inner = call.axes.factor(channels, (groups, channels.size // groups))
    call.pin(outer, "number of shuffled groups")
    return [(batch, ax.prod(inner, outer), *space)]


for _names, _axes in (
    ("aten.pixel_shuffle onnx.DepthToSpace", _shuffled_axes),
    ("aten.pixel_unshuffle onnx.SpaceToDepth", _unshuffled_axes),
    ("aten.channel_shuffle", _channel_shuffle_axes),
):
    register(_names, Operator(axes=_axes, zero=passes_on, moves=True))
