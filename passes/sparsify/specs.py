"""Formats as users give them: by name, as objects, or left to autoprune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from autoprune.errors import FormatError
from autoprune.passes.sparsify.layout import Format
from autoprune.passes.sparsify.registry import parse_format

AUTO = {
    "auto": {"linear": ("32x1", "16x1", "8x1"), "conv": ("8x1", "4x1")},
    "auto int8": {"linear": ("32x4", "16x4"), "conv": ("4x4",)},
}
"""Blocks that are tried in turn where the format is left to autoprune, by the kind of layer.
`autoprune.compile` has kernels for twice as many outputs, too; larger blocks are faster and cost
more accuracy. Products of 8-bit integers take blocks of four inputs."""

SMALLEST = 4096
"""Weights from which on `auto` makes a matrix sparse: with fewer, its time does not show."""

FEWEST_CHANNELS = 4
"""Of a convolution: those that read images lose much and gain little."""

FormatSpec = str | Format | Mapping[str, str | Format]
"""One format for all layers that have a sparse kernel, or formats by name or pattern."""


def check_spec(spec: FormatSpec) -> None:
    """Refuse what is no format.

    Raises:
        FormatError: if a name is unknown, or an object lacks what formats have.
    """
    for single in spec.values() if isinstance(spec, Mapping) else [spec]:
        if not isinstance(single, str) or single not in AUTO:
            _parsed(single)


def format_for(spec: str | Format, dims: Sequence[int]) -> tuple[Format | None, str]:
    """The format of a weight of shape [outputs, inputs, *kernel], or why there is none."""
    outputs, inputs = dims[0], prod(dims[1:])
    if isinstance(spec, str) and spec in AUTO:
        kind = "conv" if len(dims) > 2 else "linear"
        blocks = [parse_format(f"block {size}") for size in AUTO[spec][kind]]
        fitting = (b for b in blocks if outputs % b.tile[0] == 0 and dims[1] % b.tile[1] == 0)
        chosen = next(fitting, None)
        if chosen is None:
            return None, f"{blocks[-1]} does not divide its {outputs} x {dims[1]}"
        if outputs * inputs < SMALLEST:
            return None, f"it has {outputs * inputs} weights, fewer than {SMALLEST}"
        return chosen, ""
    format = _parsed(spec)
    high, wide = format.tile
    if high > outputs or wide > inputs:
        return None, f"{outputs} x {inputs} is smaller than {high} x {wide}"
    return format, ""


def unusual_shape(dims: Sequence[int], groups: int) -> str:
    """Why a weight becomes sparse only if its name is given; empty if it is usual.

    Its shape is [outputs, inputs, *kernel], and the convolution may have groups.
    """
    kernel = dims[2:]
    if groups > 1:
        return "it is that of a grouped convolution"
    if len(kernel) != 2 and any(size > 1 for size in kernel):
        return f"it is that of a {len(kernel)}-dimensional convolution"
    if kernel and dims[1] < FEWEST_CHANNELS:
        return f"it reads {dims[1]} channels, as of an image"
    return ""


def _parsed(spec: str | Format) -> Format:
    if isinstance(spec, str):
        return parse_format(spec)
    missing = [m for m in ("tile", "fits", "choose", "levels") if not hasattr(spec, m)]
    if missing:
        raise FormatError(
            f"{spec!r} is no sparse format", hint='give a name such as "block 32x1", or "auto"'
        )
    return spec
