"""Depthwise convolutions that read bytes and make bytes.

A tile is some rows of four channels by one vector. The instruction adds up four neighbouring bytes,
which are those of four channels; so the bytes of four taps of a row are brought together first:

    tap 0: a0 b0 c0 d0 | a1 b1 ...        position 0: a0 a1 a2 a3 | b0 b1 b2 b3 | c0 ...
    tap 1: a1 b1 c1 d1 | a2 b2 ...   ->   position 1: a1 a2 a3 a4 | b1 ...
    ...

What is left of a row as a single tap is multiplied as it is, by a weight in one byte of four.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from autoprune.passes.kernels.cpu.depthwise import DepthwiseTile
from autoprune.passes.kernels.cpu.dot import dot_vectors
from autoprune.passes.kernels.cpu.rounding import (
    FLIPPED,
    activated,
    lowered_bytes,
    packed_bytes,
    store_bytes,
)
from autoprune.passes.kernels.encoding import CLIPPING, between_bytes
from autoprune.passes.kernels.geometry import TOGETHER, Geometry, groups_of
from autoprune.passes.kernels.kernel import Candidate, Kernel, Lowered, Product, Steps
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Dot, Target
from autoprune.passes.sparsify.layout import Array

LANE = 16
"""Bytes within which x86 moves bytes at once."""


@define
@dataclass(frozen=True)
class DepthwiseBytes(Kernel):
    """Every channel by itself, where what is beside it is of bytes."""

    name = "depthwise8"
    operator = "QuantizedDepthwise"
    precision = "bytes"
    rows = TOGETHER

    geometry: Geometry
    activation: str = ""

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Those whose channels come in fours."""
        if product.depthwise and len(product.weight) % TOGETHER == 0:
            activation = "" if product.activation in CLIPPING else product.activation
            yield Candidate(cls(product.geometry.unpadded, activation))

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return between_bytes(product, steps)

    def lower(self, target: Target) -> Lowered:
        """Tiles of three rows, and of one."""
        dot, geometry = target.need_dot(), self.geometry.unpadded
        tiles = (
            DepthwiseBytesTile(geometry, dot.lanes, n, self.activation, dot=dot) for n in (3, 1)
        )
        return lowered_bytes(target, tiles)


@dataclass(frozen=True)
class DepthwiseBytesTile(DepthwiseTile):
    """`DepthwiseTile` of bytes, which makes bytes.

    Attributes:
        dot: the instruction, of whose lanes vectors are.
    """

    kind = "depthwise8"

    dot: Dot = field(kw_only=True)

    def primitive(self) -> Any:
        return _depthwise_bytes(self)


def _depthwise_bytes(kernel: DepthwiseBytesTile) -> Any:
    """The kernel as a TVM function.

    Its arguments are activations (flat), taps [planes, rows of taps, groups, 4 channels] with four
    bytes each, bias [planes, 4], the output (flat), numbers, scales and sums as those of
    `SpatialInt8Tile`, elements from one plane to the next, from one phase (every stride-th row and
    column) to the next, and from one row to the next, and the rows of the output, of which there
    are as many as the tile has. Rows that are narrower than a vector are written with what follows
    them, and read with it: there have to be as many elements after the last one.
    """
    lanes, height, dot = kernel.tile, kernel.height, kernel.dot
    (kh, kw), (sh, sw), (dh, dw) = (
        kernel.geometry.kernel, kernel.geometry.stride, kernel.geometry.dilation,
    )  # fmt: skip
    groups = list(groups_of(kw))

    def begin(sums: Any, weights: Any, plane: Any) -> None:
        offset = -dot.offset
        for first in range(0, height * TOGETHER * lanes, lanes):
            if dot.intrinsic:
                value = repeated(weights[plane, T.ramp(0, 1, TOGETHER)], lanes)
                value = value * T.broadcast(offset, lanes)
                T.buffer_store(sums, value, [T.ramp(first, 1, lanes)])
            else:
                with T.vectorized(lanes) as lane:
                    value = weights[plane, first // lanes % TOGETHER] * offset
                    T.buffer_store(sums, value, [first + lane])

    def accumulate(
        sums: Any, x: Any, taps: Any, plane: Any, start: Any, phase: Any, pitch: Any
    ) -> None:
        for a in range(kh):
            for g, columns in enumerate(groups):
                for r in range(height):
                    places = [
                        start
                        + (a * dh % sh * sw + b * dw % sw) * phase
                        + (r + a * dh // sh) * pitch
                        + b * dw // sw
                        for b in columns
                    ]
                    first = r * TOGETHER * lanes
                    if dot.intrinsic:
                        add_vectors(sums, first, x, places, taps, (plane, a, g))
                    else:
                        add_bytes(sums, first, x, places, taps, (plane, a, g))

    def add_vectors(
        sums: Any, first: int, x: Any, places: list[Any], taps: Any, at: tuple[Any, ...]
    ) -> None:
        weight = repeated(taps[(*at, T.ramp(0, 1, TOGETHER))], lanes)
        vectors = [x[T.ramp(place, 1, lanes)] for place in places]
        for e, bytes_ in enumerate(together(vectors, lanes)):
            to = T.ramp(first + e * lanes, 1, lanes)
            T.buffer_store(sums, dot_vectors(dot, sums[to], bytes_, weight), [to])

    def add_bytes(
        sums: Any, first: int, x: Any, places: list[Any], taps: Any, at: tuple[Any, ...]
    ) -> None:
        for c in range(TOGETHER):
            to, weight = first + c * lanes, taps[(*at, c)]
            with T.vectorized(lanes) as lane:
                found = sums[to + lane]
                for k, place in enumerate(places):
                    byte = _byte(weight, c if len(places) == 1 else k, signed=True)
                    found = found + _byte(x[place + lane], c, signed=not dot.offset) * byte
                T.buffer_store(sums, found, [to + lane])

    def finish(
        sums: Any, y: Any, place: Any, pitch: Any, plane: Any, scales: Any, bias: Any, numbers: Any
    ) -> None:
        for r in range(height):
            firsts = [(r * TOGETHER + c) * lanes for c in range(TOGETHER)]
            if not dot.intrinsic:
                store_bytes(
                    dot, kernel.activation, y, (place + r * pitch,), sums, firsts,
                    scales, bias, plane, numbers,
                )  # fmt: skip
                continue
            scale, shift = (
                repeated(a[plane, T.ramp(0, 1, TOGETHER)], lanes) for a in (scales, bias)
            )
            made = [
                T.Cast(f"float32x{lanes}", sums[T.ramp(first, 1, lanes)]) * scale + shift
                for first in firsts
            ]
            made = activated(made, kernel.activation, numbers, lanes)
            T.buffer_store(y, in_order(made, dot), [T.ramp(place + r * pitch, 1, lanes)])

    @T.prim_func
    def convolution(
        x: T.handle, taps: T.handle, bias: T.handle, y: T.handle, numbers: T.handle,
        scales: T.handle, sums: T.handle,
        plane: T.int32, made: T.int32, phase: T.int32, pitch: T.int32, rows: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        extent = T.int32()
        planes = T.int32()
        outputs = T.int32()
        many = T.int32()
        X = T.match_buffer(x, (extent,), "int32", align=4)
        W = T.match_buffer(taps, (planes, kh, len(groups), TOGETHER), "int32", align=4)
        B = T.match_buffer(bias, (planes, TOGETHER), "float32", align=4)
        Y = T.match_buffer(y, (outputs,), "int32", align=4)
        N = T.match_buffer(numbers, (many,), "float32", align=4)
        S = T.match_buffer(scales, (planes, TOGETHER), "float32", align=4)
        Z = T.match_buffer(sums, (planes, TOGETHER), "int32", align=4)
        for p in T.serial(planes):
            for i in T.serial((rows + (height - 1)) // height):
                for j in T.serial((pitch + (lanes - 1)) // lanes):
                    acc = T.alloc_buffer((height * TOGETHER * lanes,), "int32")
                    begin(acc, Z, p)
                    row = T.meta_var(T.min(i * height, rows - height))
                    column = T.meta_var(T.max(T.min(j * lanes, pitch - lanes), 0))
                    accumulate(acc, X, W, p, p * plane + row * pitch + column, phase, pitch)
                    finish(acc, Y, p * made + row * pitch + column, pitch, p, S, B, N)

    return convolution


def _byte(word: Any, place: int, *, signed: bool) -> Any:
    byte = T.Cast("int8" if signed else "uint8", T.shift_right(word, 8 * place))
    return T.Cast("int32", byte)


def repeated(four: Any, lanes: int) -> Any:
    """Four numbers again and again."""
    return tirx.Shuffle([four] * (lanes // TOGETHER), list(range(lanes)))


def together(taps: list[Any], lanes: int) -> list[Any]:
    """Four vectors of every fourth position, with lanes for its channels, and a byte for each tap.

    Args:
        taps: up to four vectors of positions, with bytes for channels; of one alone, all bytes
            stay together in every lane.
        lanes: of a vector.
    """
    if len(taps) == 1:
        return [
            tirx.Shuffle(taps, [i - i % TOGETHER + e for i in range(lanes)])
            for e in range(TOGETHER)
        ]
    count = 4 * lanes
    taps = [*taps, *taps[: TOGETHER - len(taps)]]
    bytes_ = [T.reinterpret(f"int8x{count}", tap) for tap in taps]
    found = []
    for upper in (0, 1):
        first, second = (_interleaved(bytes_[k], bytes_[k + 1], 1, upper, count) for k in (0, 2))
        found += [_interleaved(first, second, 2, last, count) for last in (0, 1)]
    return [T.reinterpret(f"int32x{lanes}", vector) for vector in found]


def _interleaved(first: Any, second: Any, size: int, upper: int, count: int) -> Any:
    """Pieces of `size` bytes of two vectors in turns, from the lower or upper half of 16 each."""
    places = []
    for start in range(upper * LANE // 2, count, LANE):
        for piece in range(start, start + LANE // 2, size):
            places += [*range(piece, piece + size), *range(count + piece, count + piece + size)]
    return tirx.Shuffle([first, second], places)


def in_order(numbers: list[Any], dot: Dot) -> Any:
    """The bytes of what `together` took apart, position after position."""
    lanes = dot.lanes
    if dot.packs:
        return T.reinterpret(f"int32x{lanes}", packed_bytes(numbers, dot))
    whole = [
        T.Cast(f"uint8x{lanes}", T.max(T.min(number, T.float32(255)), T.float32(0)))
        for number in numbers
    ]
    places = [
        e * lanes + group + c
        for group in range(0, lanes, TOGETHER)
        for e in range(TOGETHER)
        for c in range(TOGETHER)
    ]
    joined = T.reinterpret(f"int32x{lanes}", tirx.Shuffle(whole, places))
    return joined if dot.offset else T.bitwise_xor(joined, T.broadcast(FLIPPED, lanes))
