"""Pooling and resampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from autoprune.frameworks.onnx.to_torch.layers import Pads, for_pad, pads_of, symmetric, windowed
from autoprune.frameworks.onnx.to_torch.sizes import list_of
from autoprune.frameworks.onnx.to_torch.writer import OnnxCall, Written, writes

Sizes = tuple[int, ...]

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: dict[int, Callable[..., torch.Tensor]] = {
    1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d,
}  # fmt: skip


def max_pool(
    x: torch.Tensor, kernel: Sizes, strides: Sizes, pads: Pads, dilations: Sizes, ceil: bool
) -> torch.Tensor:
    """Maximum of each window; padding never is the maximum."""
    count = len(kernel)
    before = pads[:count]
    if not symmetric(pads) or any(2 * p > k for p, k in zip(before, kernel, strict=True)):
        x, before = F.pad(x, for_pad(pads), value=-math.inf), (0,) * count
    y: torch.Tensor = _MAX[count](x, kernel, strides, before, dilations, ceil)
    return y


def max_pool_indices(
    x: torch.Tensor, kernel: Sizes, strides: Sizes, pads: Pads, dilations: Sizes, ceil: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximum of each window, and where it stands in the whole tensor."""
    count = len(kernel)
    values, places = _MAX[count](
        x, kernel, strides, pads[:count], dilations, ceil, return_indices=True
    )
    maps, pixels = math.prod(x.shape[:2]), math.prod(x.shape[2:])
    first = torch.arange(maps, device=x.device) * pixels
    return values, places + first.reshape(*x.shape[:2], *(1,) * count)


def _windows(call: OnnxCall) -> tuple[Sizes, Sizes, Pads, Sizes, bool]:
    kernel = call.attribute("kernel_shape")
    if len(kernel) not in _MAX:
        raise call.unsupported(f"it has {len(kernel)} dimensions")
    ones = (1,) * len(kernel)
    return (
        kernel, call.attribute("strides", ones), pads_of(call, kernel),
        call.attribute("dilations", ones), call.attribute("ceil_mode", False),
    )  # fmt: skip


@writes("MaxPool")
def _max_pool(call: OnnxCall) -> Written:
    windows = _windows(call)
    if len(call.node.output) < 2 or not call.node.output[1]:
        return call.emit(max_pool, windowed(call), *windows)
    if not symmetric(windows[2]) or call.attribute("storage_order", 0):
        raise call.unsupported("positions are only given with even padding and row by row")
    return call.emit_parts(max_pool_indices, windowed(call), *windows)


def average_pool(
    x: torch.Tensor, kernel: Sizes, strides: Sizes, pads: Pads, ceil: bool, count_pad: bool
) -> torch.Tensor:
    """Mean of each window, with or without the padding in it."""
    count = len(kernel)
    pool, before = _AVERAGE[count], pads[:count]
    if symmetric(pads) and all(2 * p <= k for p, k in zip(before, kernel, strict=True)):
        return pool(x, kernel, strides, before, ceil, count_pad)
    total = pool(F.pad(x, for_pad(pads)), kernel, strides, 0, ceil, True)
    if count_pad:
        return total
    inside = F.pad(torch.ones_like(x[:1, :1]), for_pad(pads))
    return total / pool(inside, kernel, strides, 0, ceil, True)


@writes("AveragePool")
def _average_pool(call: OnnxCall) -> fx.Node:
    kernel, strides, pads, dilations, ceil = _windows(call)
    if max(dilations) > 1:
        raise call.unsupported("its windows have gaps")
    count_pad = call.attribute("count_include_pad", False)
    return call.emit(average_pool, windowed(call), kernel, strides, pads, ceil, count_pad)


def norm_pool(
    x: torch.Tensor, kernel: Sizes, strides: Sizes, pads: Pads, ceil: bool, p: float
) -> torch.Tensor:
    """The p-norm of each window."""
    powers = F.pad(torch.abs(x), for_pad(pads)) ** p
    mean = _AVERAGE[len(kernel)](powers, kernel, strides, 0, ceil)
    root: torch.Tensor = (mean * math.prod(kernel)) ** (1 / p)
    return root


@writes("LpPool")
def _norm_pool(call: OnnxCall) -> fx.Node:
    kernel, strides, pads, dilations, ceil = _windows(call)
    if max(dilations) > 1 or ceil:
        raise call.unsupported("its windows have gaps or go over the edge")
    p = float(call.attribute("p", 2))
    return call.emit(norm_pool, windowed(call), kernel, strides, pads, ceil, p)


_GLOBAL: dict[str, Callable[..., Any]] = {
    "GlobalAveragePool": torch.mean, "GlobalMaxPool": torch.amax,
}  # fmt: skip


@writes("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def _global_pool(call: OnnxCall) -> fx.Node:
    pixels = tuple(range(2, call.rank))
    if call.op == "GlobalLpPool":
        p = float(call.attribute("p", 2))
        return call.emit(torch.linalg.vector_norm, call.tensor(0), p, pixels, True)
    return call.emit(_GLOBAL[call.op], call.tensor(0), pixels, True)


_SAMPLING = {"linear": "bilinear", "cubic": "bicubic"}


@writes("GridSample")
def _grid_sample(call: OnnxCall) -> fx.Node:
    mode = call.attribute("mode", "linear")
    return call.emit(
        F.grid_sample, call.tensor(0), call.tensor(1), _SAMPLING.get(mode, mode),
        call.attribute("padding_mode", "zeros"), call.attribute("align_corners", False),
    )  # fmt: skip


def resized(
    x: torch.Tensor, size: Any, scales: Any, mode: str, align: bool | None, antialias: bool
) -> torch.Tensor:
    """`x` with other sizes of its last dimensions; either sizes or scales of all are given."""
    return F.interpolate(
        x,
        None if size is None else list_of(size)[2:],
        None if scales is None else [float(s) for s in list_of(scales)[2:]],
        mode,
        align,
        antialias=antialias,
    )


def nearest(
    x: torch.Tensor, size: Any, scales: Any, coordinates: str, rounding: str
) -> torch.Tensor:
    """The nearest element along each dimension, by any convention of ONNX."""
    for dim in range(2, x.ndim):
        old = x.shape[dim]
        scale = list_of(scales)[dim] if scales is not None else list_of(size)[dim] / old
        new = list_of(size)[dim] if size is not None else math.floor(old * scale)
        if new != old:
            places = _places(old, new, float(scale), coordinates, rounding)
            x = x.index_select(dim, places.to(x.device))
    return x


def _places(old: int, new: int, scale: float, coordinates: str, rounding: str) -> torch.Tensor:
    """Which of `old` elements each of `new` ones is a copy of."""
    i = torch.arange(new, dtype=torch.float32)
    if coordinates == "asymmetric":
        place = i / scale
    elif coordinates == "align_corners":
        place = i * (old - 1) / max(new - 1, 1)
    elif coordinates == "pytorch_half_pixel" and new == 1:
        place = torch.zeros(1)
    else:
        place = (i + 0.5) / scale - 0.5
    rounded = {
        "floor": torch.floor(place),
        "ceil": torch.ceil(place),
        "round_prefer_floor": torch.ceil(place - 0.5),
        "round_prefer_ceil": torch.floor(place + 0.5),
    }[rounding]
    return rounded.clamp(0, old - 1).long()


_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
_SMOOTH = {
    ("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear",
    ("cubic", 4): "bicubic",
}  # fmt: skip


@writes("Resize Upsample")
def _resize(call: OnnxCall) -> fx.Node:
    old = call.op == "Upsample" or call.opset < 11
    size = None if old else call.number(3)
    scales = call.given(1, "scales") if old else call.number(2)
    scales = None if scales == () else scales
    shape, x = call.shape(0), call.tensor(0)
    axes = call.attribute("axes")
    if axes is not None:
        size, scales = (_on_all(call, given, axes) for given in (size, scales))
    made = call.writer.shape(call.node.output[0])
    policy = call.attribute("keep_aspect_ratio_policy", "stretch")
    coordinates = call.attribute("coordinate_transformation_mode", "half_pixel")
    coordinates = "asymmetric" if old else coordinates
    if made[:2] != shape[:2] or policy != "stretch" or coordinates not in _COORDINATES:
        raise call.unsupported("only pixels are resized, with all of the old ones")
    kind = call.attribute("mode", "nearest")
    if kind == "nearest":
        rounding = "floor" if old else call.attribute("nearest_mode", "round_prefer_floor")
        whole = all(b % a == 0 for a, b in zip(shape[2:], made[2:], strict=True))
        plain = (coordinates, rounding) == ("asymmetric", "floor")
        copies = whole and coordinates != "align_corners" and rounding.startswith("round")
        copies = copies and coordinates != "asymmetric" and made[2:] != (1,) * len(made[2:])
        if (plain or copies) and len(shape) in (3, 4, 5):
            return call.emit(resized, x, size, scales, "nearest", None, False)
        return call.emit(nearest, x, size, scales, coordinates, rounding)
    mode = _SMOOTH.get((kind, len(shape)))
    usual = call.attribute("cubic_coeff_a", -0.75) == -0.75
    usual = usual and not call.attribute("exclude_outside", 0)
    single = 1 in made[2:] and coordinates == "pytorch_half_pixel"
    if mode is None or coordinates == "asymmetric" or not usual or single:
        raise call.unsupported(f"torch has no {kind} resize with {coordinates} coordinates")
    align, antialias = coordinates == "align_corners", call.attribute("antialias", False)
    return call.emit(resized, x, size, scales, mode, align, antialias)


def on_all(given: Any, axes: Sizes, others: Any) -> list[Any]:
    """Numbers of some axes among those of all."""
    numbers = list(list_of(others))
    for axis, number in zip(axes, list_of(given), strict=True):
        numbers[axis] = number
    return numbers


def sizes_on_all(x: torch.Tensor, given: Any, axes: Sizes) -> list[Any]:
    """Sizes of some axes among those that `x` has."""
    return on_all(given, axes, tuple(x.shape))


def _on_all(call: OnnxCall, given: Any, axes: Sizes) -> Any:
    if given is None:
        return None
    if given is call.number(3):
        return call.emit(sizes_on_all, call.tensor(0), given, axes)
    return call.emit(on_all, given, axes, (1.0,) * call.rank)
