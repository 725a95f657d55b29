"""Convolutions of bytes that make bytes, and what they should make, by integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprune.passes.kernels.cpu.depthwise_bytes import DepthwiseBytes
from autoprune.passes.kernels.cpu.spatial_int8 import SpatialBytes
from tests.arm.cases import Case
from tests.kernels.blocks import ACTIVATIONS
from tests.kernels.test_convolutions import convolved

QUAD = 4


def words(array, offset):
    """Bytes [batch, channels, ...] as kernels store them: four channels in an int32."""
    stored = array if offset else array ^ np.uint8(128)
    quads = stored.reshape(array.shape[0], -1, QUAD, *array.shape[2:])
    return np.ascontiguousarray(np.moveaxis(quads, 2, -1)).view(np.int32)[..., 0]


def bytes_of(stored, offset):
    """The inverse of `words`."""
    quads = np.ascontiguousarray(stored)[..., None].view(np.uint8)
    array = np.moveaxis(quads, -1, 2).reshape(stored.shape[0], -1, *stored.shape[2:])
    return array if offset else array ^ np.uint8(128)


@dataclass(frozen=True, eq=False)
class Quantized:
    """Weights of integers [outputs, inputs, *kernel], and scale and bias of what they make."""

    whole: np.ndarray
    scale: np.ndarray
    bias: np.ndarray

    def tensors(self):
        """As the operator takes them: blocks of four outputs and inputs, taps of an input apart."""
        outputs, inputs, *kernel = self.whole.shape
        taps = int(np.prod(kernel))
        blocks = self.whole.reshape(outputs // QUAD, QUAD, inputs // QUAD, QUAD, taps)
        blocks = blocks.transpose(0, 2, 4, 1, 3).reshape(outputs // QUAD, -1, QUAD, QUAD)
        kept = blocks.any(axis=(2, 3))
        return {
            "values": np.ascontiguousarray(blocks[kept]).view(np.int32)[..., 0],
            "index": np.nonzero(kept)[1].astype(np.int32),
            "offsets": np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int32),
            "bias": self.bias.reshape(-1, QUAD),
            "scales": self.scale.reshape(-1, QUAD),
            "sums": self.whole.reshape(outputs, -1).sum(1, dtype=np.int32).reshape(-1, QUAD),
        }


def draw_quantized(rng, block_rows, inputs, kernel, density=0.4):
    """Random integers; one block row is empty, one is full. Numbers that float32 adds exactly."""
    shape = (block_rows, inputs // QUAD, *kernel)
    mask = rng.random(shape) < density
    mask[0], mask[-1] = False, True
    mask = np.repeat(np.repeat(mask, QUAD, 0), QUAD, 1)
    whole = rng.integers(-127, 128, mask.shape, dtype=np.int8) * mask.astype(np.int8)
    return Quantized(whole, *_numbers(rng, len(whole)))


@dataclass(frozen=True, eq=False)
class Depthwise(Quantized):
    """The same of a depthwise convolution: [channels, 1, *kernel]."""

    def tensors(self):
        """As the operator takes them: four taps of a row in an int32, or one in the byte of its
        channel."""
        channels, _, height, width = self.whole.shape
        taps = np.zeros((channels, height, -(-width // QUAD), QUAD), np.int8)
        for c, row, column in np.ndindex(channels, height, width):
            group, place = divmod(column, QUAD)
            alone = column == width - 1 and place == 0
            taps[c, row, group, c % QUAD if alone else place] = self.whole[c, 0, row, column]
        planes = taps.view(np.int32).reshape(-1, QUAD, *taps.shape[1:3])
        return {
            "taps": np.ascontiguousarray(np.moveaxis(planes, 1, -1)),
            "bias": self.bias.reshape(-1, QUAD),
            "scales": self.scale.reshape(-1, QUAD),
            "sums": self.whole.reshape(channels, -1).sum(1, dtype=np.int32).reshape(-1, QUAD),
        }


def draw_depthwise(rng, channels, kernel):
    """Random integers."""
    whole = rng.integers(-127, 128, (channels, 1, *kernel), dtype=np.int8)
    return Depthwise(whole, *_numbers(rng, channels))


def _numbers(rng, outputs):
    scale = np.exp2(rng.integers(-11, -7, outputs)).astype(np.float32)
    return scale, (rng.integers(0, 255 * 16, outputs) / 16).astype(np.float32)


def draw_bytes(rng, shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


def expected(weights, x, zero, geometry, activation="", added=None, numbers=(0, 0, 0)):
    """The bytes that are made, of bytes `x` of which `zero` stands for nothing."""
    (top, left), (bottom, right) = geometry.begin, geometry.end
    wide = ((0, 0), (0, 0), (top, bottom), (left, right))
    signed = np.pad(x, wide, constant_values=zero).astype(np.float64) - 128
    inner = type(geometry)(geometry.kernel, geometry.stride, geometry.dilation)
    groups = x.shape[1] // weights.whole.shape[1]
    sums = convolved(signed, weights.whole, np.zeros(len(weights.whole)), inner, groups)
    made = sums * weights.scale[:, None, None] + weights.bias[:, None, None]
    if added is not None:
        made = made + added * float(numbers[0])
    if activation:
        made = ACTIVATIONS[activation](made) * float(numbers[1]) + float(numbers[2])
    return np.floor(np.clip(made, 0, 255)).astype(np.uint8)


def pooled(x, geometry):
    """The largest bytes of windows; padding is the least byte."""
    (top, left), (bottom, right) = geometry.begin, geometry.end
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, geometry.kernel, axis=(2, 3))
    height, width = geometry.stride
    return windows[:, :, ::height, ::width].max(axis=(-2, -1))


def cases_of(rng, offset, geometries, sizes):
    """Cases and their bytes: of depthwise convolutions, whose kernels come first, one for each
    geometry, and of sparse ones, without a residual and with one; and of pooling."""
    numbers = np.array([0.25, 0, 0], np.float32)
    for place, geometry in enumerate(geometries):
        sparse = draw_quantized(rng, 5, 12, geometry.kernel)
        kinds = (
            ("QuantizedDepthwise", place, draw_depthwise(rng, 12, geometry.kernel)),
            ("QuantizedConv", len(geometries), sparse),
            ("QuantizedConv", len(geometries) + 1, sparse),
        )
        for size in sizes(geometry):
            for kind, kernel, weights in kinds:
                x, zero = draw_bytes(rng, (2, 12, *size)), int(rng.integers(0, 256))
                wanted, added = expected(weights, x, zero, geometry), []
                if kernel > len(geometries):
                    more = draw_bytes(rng, wanted.shape)
                    wanted = expected(weights, x, zero, geometry, "", more, numbers)
                    added = [words(more, offset)]
                inputs = [words(x, offset), *weights.tensors().values(), numbers, *added]
                settings = {"kernel": kernel, "zero": zero, **geometry.attributes()}
                yield Case(kind, settings, inputs), wanted
            if geometry.dilation == (1, 1):
                x = draw_bytes(rng, (2, 12, *size))
                settings = {"kernel": place, "zero": 0, **geometry.attributes()}
                yield Case("QuantizedMaxPool", settings, [words(x, offset)]), pooled(x, geometry)


def families_of(target, geometries):
    """The kernels that the cases are for."""
    depthwise = [DepthwiseBytes(geometry).lower(target) for geometry in geometries]
    return [*depthwise, *(SpatialBytes(residual=r).lower(target) for r in (False, True))]


def compare_bytes(results, found, offset):
    """What the driver returned, which takes every output for floats, beside what it should be."""
    for got, (case, wanted) in zip(results, found, strict=True):
        assert isinstance(got, np.ndarray), f"{case}: {got}"
        made = bytes_of(got.view(np.int32), offset)
        np.testing.assert_array_equal(made, wanted, err_msg=str(case))
