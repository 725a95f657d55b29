"""Weights as kernels read them: blocks of floats, blocks of 8-bit integers, integers of channels.

Blocks have some outputs at one input. Those of integers have four inputs of the same tap, whose
bytes share an int32.
"""

from __future__ import annotations

import numpy as np

from autoprune.passes.kernels.geometry import TOGETHER, groups_of
from autoprune.passes.kernels.kernel import Product, Step, Steps
from autoprune.passes.sparsify.formats.blocks import Block
from autoprune.passes.sparsify.layout import Array
from autoprune.passes.sparsify.tiles import kept_tiles, spread

LONGEST = 1 << 16
"""Inputs times taps of which products of bytes always add up in 32 bits."""

CLIPPING = ("", "relu", "relu6")
"""Activations that do no more than a byte does, which ends where the range of its value ends."""

MIDDLE = 128
"""The byte that the sums of kernels count from."""


def stored_share(weight: Array, rows: int, columns: int = 1) -> float:
    """Share of the weights that blocks store; 1 if they do not fit."""
    if len(weight) % rows or weight.shape[1] % columns:
        return 1.0
    return float(kept_tiles(weight != 0, rows, columns).mean())


def quadruples(product: Product) -> Array:
    """The weight with four inputs of the same tap side by side: [outputs, inputs / 4, taps, 4].

    Inputs that are missing have weights that are zero.
    """
    outputs, taps = len(product.weight), product.geometry.taps
    apart = product.weight.reshape(outputs, -1, taps)
    apart = np.pad(apart, ((0, 0), (0, -apart.shape[1] % TOGETHER), (0, 0)))
    four = apart.reshape(outputs, -1, TOGETHER, taps)
    return four.transpose(0, 1, 3, 2).reshape(outputs, -1)


def inputs_of(product: Product) -> int:
    """Inputs of a product, each of which may have several taps."""
    return int(product.weight.shape[1]) // product.geometry.taps


def by_block(numbers: Array, rows: int) -> Array:
    """One number for each output."""
    return np.ascontiguousarray(numbers.reshape(-1, rows), np.float32)


def floats(product: Product, rows: int) -> dict[str, Array]:
    """The weights and the bias of a product."""
    arrays = _in_blocks(product.weight, rows, 1)
    return {
        "values": arrays["values"].reshape(-1, rows),
        "index": arrays["columns"],
        "offsets": arrays["offsets"],
        "bias": by_block(product.bias, rows),
    }


def integers(product: Product, rows: int) -> dict[str, Array]:
    """The same in 8 bits, with the scales that integers count, and their sums."""
    whole, scales = rounded(quadruples(product))
    return {
        **_blocks(whole, rows),
        "bias": by_block(product.bias, rows),
        "scales": by_block(scales, rows),
        "sums": _sums(whole, rows),
    }


def between_bytes(product: Product, steps: Steps) -> dict[str, Array]:
    """The constants of a convolution that reads and makes bytes.

    With weights W s, activations (X - zero) x, and bytes of steps y to be made, an output is

        y byte = (s x / y) (W (X - 128)) + (s x (128 - zero) sum(W) + bias) / y + zero of y

    Args:
        product: a convolution, sparse or depthwise.
        steps: of the values that it reads and makes.
    """
    given, made = steps[product.x], steps[product.output]
    whole, scales = rounded(product.weight if product.depthwise else quadruples(product))
    if product.depthwise:
        arrays = _by_channel(whole, product.geometry.kernel[1])
    else:
        arrays = _blocks(whole, TOGETHER)
    scales = scales * given.size
    bias = product.bias + scales * (MIDDLE - given.zero) * whole.sum(axis=1, dtype=np.int64)
    added = steps[product.added] if product.added is not None else Step(0.0, 0)
    bias = bias - added.size * added.zero
    # One half, as kernels round down.
    factor, shift = 1 / made.size, made.zero + 0.5
    if product.activation in CLIPPING:
        scales, bias = scales * factor, bias * factor + shift
        numbers = [added.size * factor, 0.0, 0.0]
    else:
        numbers = [added.size, factor, shift]
    return {
        **arrays,
        "bias": by_block(bias, TOGETHER),
        "scales": by_block(scales, TOGETHER),
        "sums": _sums(whole, TOGETHER),
        "numbers": np.array(numbers, np.float32),
    }


def rounded(weight: Array) -> tuple[Array, Array]:
    """Integers, and the 127th of the largest weight of each output [outputs], which they count."""
    exact = weight.astype(np.float64)
    scales = np.maximum(np.abs(exact).max(axis=1), 1e-30) / 127
    return np.round(exact / scales[:, None]).astype(np.int8), scales


def _in_blocks(weight: Array, rows: int, columns: int) -> dict[str, Array]:
    """The blocks of which one weight at least is not zero."""
    there = kept_tiles(weight != 0, rows, columns)
    mask = spread(there, rows, columns, (len(weight), weight.shape[1]))
    return dict(Block(rows, columns).encode(weight, mask).arrays)


def _blocks(whole: Array, rows: int) -> dict[str, Array]:
    """Integers [outputs, inputs] in blocks of four inputs.

    A block in which everything was rounded to zero is not stored.
    """
    arrays = _in_blocks(whole, rows, TOGETHER)
    together = np.ascontiguousarray(arrays["values"].transpose(0, 2, 1))
    return {
        "values": together.view(np.int32).reshape(-1, rows),
        "index": (arrays["columns"] // TOGETHER).astype(np.int32),
        "offsets": arrays["offsets"],
    }


def _by_channel(whole: Array, width: int) -> dict[str, Array]:
    """Integers [channels, taps] of a depthwise convolution whose rows have `width` taps."""
    channels, taps = whole.shape
    rows, groups = taps // width, list(groups_of(width))
    made = np.zeros((channels, rows, len(groups), TOGETHER), np.int8)
    for g, columns in enumerate(groups):
        parts = whole.reshape(channels, rows, width)[:, :, columns.start : columns.stop]
        if len(columns) > 1:
            made[:, :, g, : len(columns)] = parts
            continue
        # The bytes of x are those of four channels then.
        channel = np.arange(channels)
        made[channel, :, g, channel % TOGETHER] = parts[:, :, 0]
    planes = made.view(np.int32).reshape(-1, TOGETHER, rows, len(groups))
    return {"taps": np.ascontiguousarray(planes.transpose(0, 2, 3, 1))}


def _sums(whole: Array, rows: int) -> Array:
    """The sum of each output's integers."""
    sums: Array = whole.sum(axis=1, dtype=np.int32)
    return sums.reshape(-1, rows)
