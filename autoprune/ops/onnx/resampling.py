"""Resize, crops, and windows of pixels that are put together."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from autoprune.ops.pinning import mixing
from autoprune.ops.rule import Operator, first_state, passes_on, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, Typing


def _resize_axes(call: Typing) -> list[Shape]:
    """Dimensions that keep their size pass; the positions of others are interpolated."""
    shape = list(call.axes_of("input"))
    named = call.integers("axes") or tuple(range(len(shape)))
    fitted = {d % len(shape) for d in named} if call.get("fits") is True else set[int]()
    for i, (axis, n) in enumerate(zip(shape, call.output.shape, strict=True)):
        if axis.size != n or i in fitted or (not call.get("sizes") and _scale(call, i) != 1):
            call.pin(axis, "resampled")
            shape[i] = call.fixed(n, "resampled positions")
    return [tuple(shape)]


def _scale(call: Typing, dim: int) -> float:
    scales, axes = call.get("scales"), call.integers("axes")
    if not isinstance(scales, tuple):
        return 1.0
    place = axes.index(dim) if dim in axes else -1 if axes else dim
    scale = scales[place] if place >= 0 else 1.0
    return float(scale) if isinstance(scale, int | float) else 1.0


def _resize_resize(call: Sizing) -> Resized:
    sizes = call.get("sizes")
    if not sizes:
        return Resized()
    output = call.axes_of(call.output)
    named = [d % len(output) for d in call.integers("axes", tuple(range(len(output))))]
    return Resized({"sizes": call.resized("sizes", [output[d] for d in named])})


register(
    "onnx.Resize onnx.Upsample",
    Operator(axes=_resize_axes, zero=first_state, resize=_resize_resize),
)


def _cropped(call: Call) -> Iterator[int]:
    """The dimensions that do not keep their size."""
    sizes = zip(call.tensor("input").shape, call.output.shape, strict=True)
    return (i for i, (before, after) in enumerate(sizes) if before != after)


def _crop_resize(call: Sizing) -> Resized:
    output = call.axes_of(call.output)
    named = [d % len(output) for d in call.integers("axes", tuple(range(len(output))))]
    return Resized({"size": call.resized("size", [output[d] for d in named])})


register(
    "onnx.CenterCropPad",
    mixing(_cropped, "cropped or padded to a size", passes_on, resize=_crop_resize),
)


def _fold_axes(call: Typing) -> list[Shape]:
    """Col2Im: `n (c k) l -> n c h w`, where windows of k pixels overlap and are summed."""
    batch, columns, windows = call.axes_of("input")
    block = prod(call.integers("block"))
    channels, pixels = call.axes.factor(columns, (columns.size // block, block))
    for axis in (pixels, windows):
        call.pin(axis, "windows are put together")
    space = (call.fixed(n, "pixels of overlapping windows") for n in call.output.shape[2:])
    return [(batch, channels, *space)]


register("onnx.Col2Im", Operator(axes=_fold_axes, zero=first_state))
