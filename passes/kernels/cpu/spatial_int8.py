"""Convolutions of 8-bit integers, which make floats, or bytes.

Activations are [inputs / 4, positions], with the bytes of four inputs in an int32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS
from autoprune.passes.kernels.cpu.dot import dot_vectors, dot_written_out
from autoprune.passes.kernels.cpu.products import check_size, suffix, weights_of
from autoprune.passes.kernels.cpu.rounding import Largest, Pack, Unpack, store_bytes
from autoprune.passes.kernels.encoding import (
    CLIPPING,
    LONGEST,
    between_bytes,
    inputs_of,
    integers,
    quadruples,
    stored_share,
)
from autoprune.passes.kernels.geometry import TOGETHER
from autoprune.passes.kernels.kernel import Candidate, Kernel, Lowered, Product, Steps
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Dot, Target
from autoprune.passes.kernels.tiles import MOST
from autoprune.passes.sparsify.layout import Array


def _is_convolution(product: Product) -> bool:
    """Whether it is one without groups whose products add up in 32 bits, of outputs in fours."""
    outputs, inputs = product.weight.shape
    return not (product.rowwise or product.depthwise or outputs % TOGETHER or inputs > LONGEST)


@define
@dataclass(frozen=True)
class SpatialInt8(Kernel):
    """`Spatial` in blocks of four inputs; every image is rounded by a scale of its own."""

    name = "spatial8"
    operator = "SparseConvInt8"
    precision = "int8"
    padded = True
    with_depthwise = "SparseConvDepthwiseInt8"

    rows: int
    activation: str = ""
    residual: bool = False

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Convolutions whose inputs and outputs come in fours."""
        if _is_convolution(product) and inputs_of(product) % TOGETHER == 0:
            stored = stored_share(quadruples(product), TOGETHER, TOGETHER)
            kernel = cls(TOGETHER, product.activation, product.added is not None)
            yield Candidate(kernel, stored, stored)

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return integers(product, self.rows)

    def lower(self, target: Target) -> Lowered:
        """Half of the registers for accumulators."""
        dot, rows = target.need_dot(), self.rows
        vectors = max(1, min(target.registers // 2 // rows, MOST // (rows * dot.lanes), 12))
        tiles = (
            SpatialInt8Tile(rows, count, dot, self.activation, self.residual)
            for count in dict.fromkeys((vectors, 1, 0))
        )
        rounding, scale = Pack(target.lanes, dot.offset), Largest(target.lanes)
        return Lowered(rows, tuple(tiles), rounding, scale, offset=dot.offset)


@define
@dataclass(frozen=True)
class SpatialBytes(Kernel):
    """Convolutions that read bytes and make bytes, in blocks of 4 outputs.

    Dense ones, too, where what is beside them is of bytes.
    """

    name = "quantized"
    operator = "QuantizedConv"
    precision = "bytes"
    rows = TOGETHER

    activation: str = ""
    residual: bool = False

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Convolutions whose outputs come in fours; sparse ones have such inputs as well."""
        if _is_convolution(product):
            activation = "" if product.activation in CLIPPING else product.activation
            stored = stored_share(quadruples(product), TOGETHER, TOGETHER)
            cost = 1.0 if inputs_of(product) % TOGETHER else stored
            yield Candidate(cls(activation, product.added is not None), stored, cost)

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return between_bytes(product, steps)

    def attributes(self, product: Product, steps: Steps) -> dict[str, int]:
        """Also the byte of x that stands for nothing."""
        return {"zero": steps[product.x].zero, **product.geometry.attributes()}

    def lower(self, target: Target) -> Lowered:
        """Tiles of three vectors, of one, and of a position."""
        dot = target.need_dot()
        tiles = (
            SpatialInt8Tile(TOGETHER, count, dot, self.activation, self.residual, True)
            for count in (3, 1, 0)
        )
        pack, unpack = (make(target.lanes, dot.offset) for make in (Pack, Unpack))
        return Lowered(TOGETHER, tuple(tiles), pack, unpack=unpack, offset=dot.offset)


@dataclass(frozen=True)
class SpatialInt8Tile:
    """`SpatialTile` for 8-bit weights and activations; a block has four inputs.

    With `quantized`, the output and what is added are bytes, too, and what exceeds a byte becomes
    the nearest one: ReLU needs no other activation where zero is the least byte.

    Attributes:
        rows: outputs of a block.
        vectors: vectors of a tile; 0 for a tile of one position, without vectors.
        dot: the instruction.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
        quantized: whether it makes bytes, rather than floats; blocks are of 4 outputs then.
    """

    rows: int
    vectors: int
    dot: Dot
    activation: str = ""
    residual: bool = False
    quantized: bool = False

    def __post_init__(self) -> None:
        check_size(self, self.rows * self.tile)
        if self.quantized and self.rows != 4:
            raise ValueError(f"{self} makes bytes of {self.rows} outputs, not of 4")

    @property
    def tile(self) -> int:
        """Positions of a tile."""
        return self.vectors * self.dot.lanes or 1

    @property
    def name(self) -> str:
        """Of the function."""
        kind = "quantized" if self.quantized else "spatial8"
        return f"{kind}_{self.rows}x{self.tile}{suffix(self)}"

    def primitive(self) -> Any:
        return _spatial_int8(self)


def _spatial_int8(kernel: SpatialInt8Tile) -> Any:
    """The kernel as a TVM function.

    Its arguments are those of `SpatialTile`, with bytes in activations and values, and before the
    first position come numbers on activations, and scales and sums of each output's weights
    [block rows, rows]. Of floats, the first number is the scale of activations.

    With `quantized`, the numbers are the factor of what is added and, where there is an activation,
    a factor of its result and what is added to that. Scales and bias are those of the bytes that
    are made, before an activation those of numbers; one half is added, to round down.
    """
    rows, tile, dot = kernel.rows, kernel.tile, kernel.dot
    lanes = dot.lanes if kernel.vectors else 1
    vectors, offset = tile // lanes, dot.offset
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual
    in_vectors = bool(kernel.vectors and dot.intrinsic)
    kind = "int32" if kernel.quantized else "float32"

    def finish(
        sums: Any, added: Any, y: Any, row: Any, start: Any, scales: Any, bias: Any, numbers: Any
    ) -> None:
        vector = dot if in_vectors else replace(dot, lanes=lanes, packs="")
        for v in range(vectors):
            store_bytes(
                vector, kernel.activation, y, (row, start + v * lanes),
                sums, [r * tile + v * lanes for r in range(4)],
                scales, bias, row, numbers, added if residual else None,
            )  # fmt: skip

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, offsets: T.handle, bias: T.handle,
        added: T.handle, y: T.handle, numbers: T.handle, scales: T.handle, sums: T.handle,
        start: T.int32, tiles: T.int32, first: T.int32, last: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        extent = T.int32()
        positions = T.int32()
        outputs = T.int32()
        many = T.int32()
        X = T.match_buffer(x, (extent,), "int32", align=4)
        R = T.match_buffer(added, (outputs, positions), kind, align=4)
        Y = T.match_buffer(y, (outputs, positions), kind, align=4)
        N = T.match_buffer(numbers, (many,), "float32", align=4)
        V, I, P, B, S, Z = weights_of(  # noqa: E741
            rows, values, index, offsets, bias, scales, sums
        )
        for t in T.serial(tiles):
            for o in T.serial(last - first):
                acc = T.alloc_buffer((rows * tile,), "int32")
                for r in T.unroll(rows):
                    for v in T.unroll(vectors):
                        for lane in T.vectorized(lanes):
                            acc[r * tile + v * lanes + lane] = Z[first + o, r] * (-offset)
                for b in T.serial(P[first + o + 1] - P[first + o]):
                    if in_vectors:
                        for v in T.unroll(vectors):
                            for r in T.unroll(rows):
                                acc[T.ramp(r * tile + v * lanes, 1, lanes)] = dot_vectors(
                                    dot,
                                    acc[T.ramp(r * tile + v * lanes, 1, lanes)],
                                    X[
                                        T.ramp(
                                            I[P[first + o] + b] + start + t * tile + v * lanes,
                                            1,
                                            lanes,
                                        )
                                    ],
                                    T.broadcast(V[P[first + o] + b, r], lanes),
                                )
                    else:
                        for v in T.unroll(vectors):
                            for r in T.unroll(rows):
                                for lane in T.vectorized(lanes):
                                    acc[r * tile + v * lanes + lane] += dot_written_out(
                                        dot,
                                        X[
                                            I[P[first + o] + b]
                                            + start
                                            + t * tile
                                            + v * lanes
                                            + lane
                                        ],
                                        V[P[first + o] + b, r],
                                    )
                if kernel.quantized:
                    finish(acc, R, Y, first + o, start + t * tile, S, B, N)
                else:
                    for r in T.unroll(rows):
                        for v in T.unroll(vectors):
                            for lane in T.vectorized(lanes):
                                Y[(first + o) * rows + r, start + t * tile + v * lanes + lane] = (
                                    activation(
                                        T.Cast("float32", acc[r * tile + v * lanes + lane])
                                        * (S[first + o, r] * N[0])
                                        + B[first + o, r]
                                        + (
                                            R[
                                                (first + o) * rows + r,
                                                start + t * tile + v * lanes + lane,
                                            ]
                                            if residual
                                            else T.float32(0)
                                        )
                                    )
                                )

    return product
