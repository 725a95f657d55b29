"""Convolutions of 8-bit integers, which make floats, or bytes.

Activations are [inputs / 4, positions], with the bytes of four inputs in an int32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.cpu.dot import dot_vectors, dot_written_out
from autoprune.passes.kernels.cpu.products import BlockKernel, finished, suffix, weights_of
from autoprune.passes.kernels.cpu.rounding import Rounding, lowered_bytes, store_bytes
from autoprune.passes.kernels.cpu.spatial import SpatialTile
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
from autoprune.passes.kernels.kernel import Candidate, Lowered, Product, Steps
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Dot, Target
from autoprune.passes.kernels.tiles import MOST
from autoprune.passes.sparsify.layout import Array


def _is_convolution(product: Product) -> bool:
    """Whether it is one without groups whose products add up in 32 bits, of outputs in fours."""
    outputs, inputs = product.weight.shape
    return not (product.rowwise or product.depthwise or outputs % TOGETHER or inputs > LONGEST)


@define
class SpatialInt8(BlockKernel):
    """`Spatial` in blocks of four inputs; every image is rounded by a scale of its own."""

    name = "spatial8"
    operator = "SparseConvInt8"
    precision = "int8"
    padded = True
    with_depthwise = "SparseConvDepthwiseInt8"

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Convolutions whose inputs and outputs come in fours."""
        if _is_convolution(product) and inputs_of(product) % TOGETHER == 0:
            yield cls.offer(
                product, stored_share(quadruples(product), TOGETHER, TOGETHER), TOGETHER
            )

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return integers(product, self.rows)

    def lower(self, target: Target) -> Lowered:
        """Half of the registers for accumulators."""
        dot, rows = target.need_dot(), self.rows
        vectors = max(1, min(target.registers // 2 // rows, MOST // (rows * dot.lanes), 12))
        shapes = dict.fromkeys(((dot.lanes, vectors), (dot.lanes, 1), (1, 1)))
        tiles = (
            SpatialInt8Tile(rows, *shape, self.activation, self.residual, dot=dot)
            for shape in shapes
        )
        rounding = Rounding("pack", target.lanes, dot.offset)
        scale = Rounding("largest", target.lanes)
        return Lowered(rows, tuple(tiles), rounding, scale, offset=dot.offset)


@define
@dataclass(frozen=True)
class SpatialBytes(BlockKernel):
    """Convolutions that read bytes and make bytes, in blocks of 4 outputs.

    Dense ones, too, where what is beside them is of bytes.
    """

    name = "quantized"
    operator = "QuantizedConv"
    precision = "bytes"

    rows: int = field(default=TOGETHER, init=False)

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

    def lower(self, target: Target) -> Lowered:
        """Tiles of three vectors, of one, and of a position."""
        dot = target.need_dot()
        tiles = (
            SpatialInt8Tile(
                self.rows, *shape, self.activation, self.residual, dot=dot, quantized=True
            )
            for shape in ((dot.lanes, 3), (dot.lanes, 1), (1, 1))
        )
        return lowered_bytes(target, tiles)


@dataclass(frozen=True)
class SpatialInt8Tile(SpatialTile):
    """`SpatialTile` for 8-bit weights and activations; a block has four inputs.

    With `quantized`, the output and what is added are bytes, too, and what exceeds a byte becomes
    the nearest one: ReLU needs no other activation where zero is the least byte.

    Attributes:
        dot: the instruction; vectors have its lanes, or a tile is one position without vectors.
        quantized: whether it makes bytes, rather than floats; blocks are of 4 outputs then.
    """

    dot: Dot = field(kw_only=True)
    quantized: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantized and self.rows != TOGETHER:
            raise ValueError(f"{self} makes bytes of {self.rows} outputs, not of {TOGETHER}")

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
    lanes, vectors, offset = kernel.lanes, kernel.vectors, dot.offset
    in_vectors = bool(lanes == dot.lanes and dot.intrinsic)
    kind = "int32" if kernel.quantized else "float32"

    def store(
        sums: Any, added: Any, y: Any, row: Any, start: Any, scales: Any, bias: Any, numbers: Any
    ) -> None:
        vector = dot if in_vectors else replace(dot, lanes=lanes, packs="")
        for v in range(vectors):
            store_bytes(
                vector, kernel.activation, y, (row, start + v * lanes),
                sums, [r * tile + v * lanes for r in range(4)],
                scales, bias, row, numbers, added if kernel.residual else None,
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
                    block = T.meta_var(P[first + o] + b)
                    for v in T.unroll(vectors):
                        at = T.meta_var(I[block] + start + t * tile + v * lanes)
                        for r in T.unroll(rows):
                            if in_vectors:
                                to = T.meta_var(T.ramp(r * tile + v * lanes, 1, lanes))
                                acc[to] = dot_vectors(
                                    dot, acc[to],
                                    X[T.ramp(at, 1, lanes)], T.broadcast(V[block, r], lanes),
                                )  # fmt: skip
                            else:
                                for lane in T.vectorized(lanes):
                                    acc[r * tile + v * lanes + lane] += dot_written_out(
                                        dot, X[at + lane], V[block, r]
                                    )
                if kernel.quantized:
                    store(acc, R, Y, first + o, start + t * tile, S, B, N)
                else:
                    for r in T.unroll(rows):
                        for v in T.unroll(vectors):
                            for lane in T.vectorized(lanes):
                                output = T.meta_var((first + o) * rows + r)
                                place = T.meta_var(start + t * tile + v * lanes + lane)
                                Y[output, place] = finished(
                                    kernel,
                                    T.Cast("float32", acc[r * tile + v * lanes + lane])
                                    * (S[first + o, r] * N[0])
                                    + B[first + o, r],
                                    R, output, place,
                                )  # fmt: skip

    return product
