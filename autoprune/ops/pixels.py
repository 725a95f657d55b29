"""Operators that turn channels into pixels or the other way round, and shuffle them."""

from __future__ import annotations

from autoprune.ir import axes as ax
from autoprune.ops.rule import Operator, Shape, Typing, passes_on, register


def _pixel_shuffle_axes(call: Typing) -> list[Shape]:
    """`(n, c x r x r, h, w) -> (n, c, h x r, w x r)`: only whole output channels can go."""
    *batch, channels, height, width = call.axes_of(call.tensors[0])
    r = call.integer("upscale_factor")
    kept, down, right = call.axes.factor(channels, (channels.size // (r * r), r, r))
    for axis in (height, width, down, right):
        call.pin(axis, "becomes pixels")
    return [(*batch, kept, ax.prod(height, down), ax.prod(width, right))]


def _pixel_unshuffle_axes(call: Typing) -> list[Shape]:
    *batch, channels, height, width = call.axes_of(call.tensors[0])
    r = call.integer("downscale_factor")
    tall, down = call.axes.factor(height, (height.size // r, r))
    wide, right = call.axes.factor(width, (width.size // r, r))
    for axis in (tall, wide, down, right):
        call.pin(axis, "pixels become channels")
    return [(*batch, ax.prod(channels, down, right), tall, wide)]


def _channel_shuffle_axes(call: Typing) -> list[Shape]:
    batch, channels, *space = call.axes_of(call.tensors[0])
    groups = call.integer("groups")
    outer, inner = call.axes.factor(channels, (groups, channels.size // groups))
    call.pin(outer, "number of shuffled groups")
    return [(batch, ax.prod(inner, outer), *space)]


register("aten.pixel_shuffle", Operator(axes=_pixel_shuffle_axes, zero=passes_on, moves=True))
register("aten.pixel_unshuffle", Operator(axes=_pixel_unshuffle_axes, zero=passes_on, moves=True))
register("aten.channel_shuffle", Operator(axes=_channel_shuffle_axes, zero=passes_on, moves=True))
