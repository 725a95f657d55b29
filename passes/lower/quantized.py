"""Weights as 8-bit integers, and the constants of convolutions that read and make bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autoprune.passes.kernels.geometry import groups_of
from autoprune.passes.lower.calibration import Step, Steps
from autoprune.passes.lower.onnx_graph import Array
from autoprune.passes.lower.products import Product
from autoprune.passes.lower.units import CLIPPING, INT8_COLUMNS, blocks_with_weights, quadruples
from autoprune.passes.sparsify.blocks import Block

MIDDLE = 128
"""The byte that the sums of kernels count from."""

FARTHEST = 1 << 30
"""Steps that an output can be away from zero, before it becomes a byte."""


def rounded(weight: Array) -> tuple[Array, Array]:
    """Integers, and the 127th of the largest weight of each output [outputs], which they count."""
    exact = weight.astype(np.float64)
    scales = np.maximum(np.abs(exact).max(axis=1), 1e-30) / 127
    return np.round(exact / scales[:, None]).astype(np.int8), scales


def encoded(whole: Array, rows: int) -> dict[str, Array]:
    """Integers [outputs, inputs] as kernels take them, in blocks of four inputs.

    A block in which everything was rounded to zero is not stored.
    """
    mask = blocks_with_weights(whole, rows, INT8_COLUMNS)
    arrays = Block(rows, INT8_COLUMNS).encode(whole, mask).arrays
    together = np.ascontiguousarray(arrays["values"].transpose(0, 2, 1))
    return {
        "values": together.view(np.int32).reshape(-1, rows),
        "index": (arrays["columns"] // INT8_COLUMNS).astype(np.int32),
        "offsets": arrays["offsets"],
    }


def _by_channel(whole: Array, width: int) -> dict[str, Array]:
    """Integers [channels, taps] of a depthwise convolution whose rows have `width` taps."""
    channels, taps = whole.shape
    rows, groups = taps // width, list(groups_of(width))
    made = np.zeros((channels, rows, len(groups), INT8_COLUMNS), np.int8)
    for g, columns in enumerate(groups):
        parts = whole.reshape(channels, rows, width)[:, :, columns.start : columns.stop]
        if len(columns) > 1:
            made[:, :, g, : len(columns)] = parts
            continue
        # The bytes of x are those of four channels then.
        channel = np.arange(channels)
        made[channel, :, g, channel % INT8_COLUMNS] = parts[:, :, 0]
    planes = made.view(np.int32).reshape(-1, INT8_COLUMNS, rows, len(groups))
    return {"taps": np.ascontiguousarray(planes.transpose(0, 2, 3, 1))}


def sums_of(whole: Array, rows: int) -> Array:
    """The sum of each output's integers."""
    sums: Array = whole.sum(axis=1, dtype=np.int32)
    return sums.reshape(-1, rows)


def by_block(numbers: Array, rows: int) -> Array:
    """One number for each output."""
    return np.ascontiguousarray(numbers.reshape(-1, rows), np.float32)


def quantized_weights(part: Product, steps: Steps) -> tuple[dict[str, Array], int]:
    """The constants of a convolution that reads and makes bytes, and the byte of x that is zero.

    With weights W s, activations (X - zero) x, and bytes of steps y to be made, an output is

        y byte = (s x / y) (W (X - 128)) + (s x (128 - zero) sum(W) + bias) / y + zero of y

    Args:
        part: a product, or a depthwise convolution.
        steps: of the values that it reads and makes.
    """
    given, made = steps[part.x], steps[part.output]
    whole, scales = rounded(part.weight if part.depthwise else quadruples(part))
    if part.depthwise:
        arrays = _by_channel(whole, part.geometry.kernel[1])
    else:
        arrays = encoded(whole, INT8_COLUMNS)
    scales = scales * given.size
    bias = part.bias + scales * (MIDDLE - given.zero) * whole.sum(axis=1, dtype=np.int64)
    added = steps[part.added] if part.added is not None else Step(0.0, 0)
    bias = bias - added.size * added.zero
    # One half, as kernels round down.
    factor, shift = 1 / made.size, made.zero + 0.5
    if part.activation in CLIPPING:
        scales, bias = scales * factor, bias * factor + shift
        numbers = [added.size * factor, 0.0, 0.0]
    else:
        numbers = [added.size, factor, shift]
    tensors = {
        **arrays,
        "bias": by_block(bias, INT8_COLUMNS),
        "scales": by_block(scales, INT8_COLUMNS),
        "sums": sums_of(whole, INT8_COLUMNS),
        "numbers": np.array(numbers, np.float32),
    }
    return tensors, given.zero


def coarse_enough(parts: Sequence[Product], steps: Steps) -> Steps:
    """Steps with which what convolutions make can be counted by 32 bits, whatever they read.

    A range on calibration data can be as small as one likes, if outputs cancel out there.

    Args:
        parts: that read and make bytes, in order.
        steps: of the values that they read and make.
    """
    coarse = dict(steps)
    for part in parts:
        most = np.abs(part.weight).sum(axis=1, dtype=np.float64) * coarse[part.x].size * 255
        most = most + np.abs(part.bias)
        if part.added is not None:
            most = most + coarse[part.added].size * 255
        made = coarse[part.output]
        coarse[part.output] = replace(made, size=max(made.size, float(most.max()) / FARTHEST))
    return coarse
