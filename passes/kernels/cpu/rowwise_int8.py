"""Linear layers of 8-bit integers, and the rounding of rows before them.

Four inputs are multiplied at a time, by the processor's dot product instruction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS
from autoprune.passes.kernels.cpu.dot import dot_vectors, dot_written_out
from autoprune.passes.kernels.cpu.products import check_size, divided, suffix, weights_of
from autoprune.passes.kernels.encoding import LONGEST, integers, quadruples, stored_share
from autoprune.passes.kernels.geometry import TOGETHER
from autoprune.passes.kernels.kernel import Candidate, Kernel, Lowered, Product, Steps
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Dot, Target
from autoprune.passes.kernels.tiles import rowwise_tiles
from autoprune.passes.sparsify.layout import Array

ROWS = (64, 32, 16)
"""Outputs of a block that are tried."""

QUANTUM = 16
"""What the inputs are a multiple of."""


@define
@dataclass(frozen=True)
class RowwiseInt8(Kernel):
    """`Rowwise` in blocks of four inputs; every position is rounded by a scale of its own."""

    name = "rowwise8"
    operator = "SparseLinearInt8"
    precision = "int8"
    rowwise = True
    several = True

    rows: int
    activation: str = ""
    residual: bool = False

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Linear layers whose inputs come in sixteens."""
        inputs = product.weight.shape[1]
        if not product.rowwise or inputs % QUANTUM or inputs > LONGEST:
            return
        for rows in ROWS:
            kernel = cls(rows, product.activation, product.added is not None)
            stored = stored_share(quadruples(product), rows, TOGETHER)
            yield Candidate(kernel, stored, stored)

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return integers(product, self.rows)

    def lower(self, target: Target) -> Lowered:
        """As `Rowwise`, with vectors of sums."""
        dot = target.need_dot()
        tiles = tuple(
            RowwiseInt8Tile(self.rows, size, dot, self.activation, self.residual, parts)
            for size, parts in rowwise_tiles(target, self.name, dot.lanes, self.rows)
        )
        rounding = Quantize(target.lanes, dot.offset)
        return Lowered(self.rows, tiles, rounding, offset=dot.offset)


@dataclass(frozen=True)
class RowwiseInt8Tile:
    """`RowwiseTile` for 8-bit weights and activations; a block has four inputs.

    Attributes:
        rows: outputs of a block, a multiple of the instruction's lanes.
        tile: positions that are computed at once.
        dot: the instruction.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
        parts: a block is computed in so many, one after the other, each of whole vectors.
    """

    rows: int
    tile: int
    dot: Dot
    activation: str = ""
    residual: bool = False
    parts: int = 1

    def __post_init__(self) -> None:
        check_size(self, self.width * self.tile)

    @property
    def width(self) -> int:
        """Outputs of a part."""
        return self.rows // self.parts

    @property
    def name(self) -> str:
        """Of the function."""
        return f"rowwise8_{self.rows}x{self.tile}{divided(self.parts)}{suffix(self)}"

    def primitive(self) -> Any:
        return _rowwise_int8(self)


@dataclass(frozen=True)
class Quantize:
    """Rounding of every row of activations to 8 bits, by a scale of its own.

    Attributes:
        lanes: float32 numbers of a vector.
        offset: added to the integers.
    """

    lanes: int
    offset: int

    @property
    def name(self) -> str:
        """Of the function."""
        return f"quantize_{self.lanes}_{self.offset}"

    def primitive(self) -> Any:
        return _quantize_rows(self)


def _rowwise_int8(kernel: RowwiseInt8Tile) -> Any:
    """The kernel as a TVM function.

    Its arguments are those of `RowwiseTile`, with activations [positions, inputs / 4] and values
    that hold four bytes in an int32, and before the first position the scales of activations
    [positions] and of weights [block rows, rows], and the sums of each output's weights
    [block rows, rows], to which the offset of activations adds.
    """
    rows, tile, lanes = kernel.rows, kernel.tile, kernel.dot.lanes
    parts, width = kernel.parts, kernel.width
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual
    offset, written_out = kernel.dot.offset, not kernel.dot.intrinsic

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, offsets: T.handle, bias: T.handle,
        added: T.handle, y: T.handle, x_scales: T.handle, scales: T.handle, sums: T.handle,
        start: T.int32, tiles: T.int32, first: T.int32, last: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        inputs = T.int32()
        positions = T.int32()
        outputs = T.int32()
        X = T.match_buffer(x, (positions, inputs), "int32", align=4)
        R = T.match_buffer(added, (positions, outputs), "float32", align=4)
        Y = T.match_buffer(y, (positions, outputs), "float32", align=4)
        XS = T.match_buffer(x_scales, (positions,), "float32", align=4)
        V, I, P, B, S, Z = weights_of(  # noqa: E741
            rows, values, index, offsets, bias, scales, sums
        )
        for t in T.serial(tiles):
            for o in T.serial(last - first):
                for part in T.unroll(parts):
                    acc = T.alloc_buffer((tile * width,), "int32")
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            acc[m * width + r] = Z[first + o, part * width + r] * (-offset)
                    for b in T.serial(P[first + o + 1] - P[first + o]):
                        if written_out:
                            for m in T.unroll(tile):
                                for r in T.vectorized(width):
                                    acc[m * width + r] += dot_written_out(
                                        kernel.dot,
                                        X[start + t * tile + m, I[P[first + o] + b]],
                                        V[P[first + o] + b, part * width + r],
                                    )
                        else:
                            for v in T.unroll(width // lanes):
                                for m in T.unroll(tile):
                                    acc[T.ramp(m * width + v * lanes, 1, lanes)] = dot_vectors(
                                        kernel.dot,
                                        acc[T.ramp(m * width + v * lanes, 1, lanes)],
                                        T.broadcast(
                                            X[start + t * tile + m, I[P[first + o] + b]], lanes
                                        ),
                                        V[
                                            P[first + o] + b,
                                            T.ramp(part * width + v * lanes, 1, lanes),
                                        ],
                                    )
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            Y[start + t * tile + m, (first + o) * rows + part * width + r] = (
                                activation(
                                    T.Cast("float32", acc[m * width + r])
                                    * (S[first + o, part * width + r] * XS[start + t * tile + m])
                                    + B[first + o, part * width + r]
                                    + (
                                        R[
                                            start + t * tile + m,
                                            (first + o) * rows + part * width + r,
                                        ]
                                        if residual
                                        else T.float32(0)
                                    )
                                )
                            )

    return product


def _quantize_rows(kernel: Quantize) -> Any:
    """The rounding as a TVM function.

    It takes activations [positions, inputs], and the bytes and the scales to be made.
    """
    lanes, offset = kernel.lanes, kernel.offset

    @T.prim_func
    def quantize(x: T.handle, q: T.handle, scales: T.handle):
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        inputs = T.int32()
        positions = T.int32()
        X = T.match_buffer(x, (positions, inputs), "float32", align=4)
        # Bytes, with or without a sign.
        Q = T.match_buffer(q, (positions, inputs), "uint8", align=1)
        S = T.match_buffer(scales, (positions,), "float32", align=4)
        for m in T.serial(positions):
            most = T.alloc_buffer((lanes,), "float32")
            for lane in T.vectorized(lanes):
                most[lane] = T.float32(1e-30)
            for k in T.serial(inputs // lanes):
                for lane in T.vectorized(lanes):
                    most[lane] = T.max(
                        most[lane],
                        T.max(X[m, k * lanes + lane], -X[m, k * lanes + lane]),
                    )
            for lane in T.unroll(lanes - 1):
                most[0] = T.max(most[0], most[lane + 1])
            S[m] = most[0] * T.float32(1 / 127)
            for k in T.serial(inputs // lanes):
                for lane in T.vectorized(lanes):
                    Q[m, k * lanes + lane] = T.Cast(
                        "uint8",
                        T.Cast(
                            "int32",
                            T.floor(
                                X[m, k * lanes + lane] * (T.float32(127) / most[0])
                                + T.float32(offset + 0.5)
                            ),
                        ),
                    )

    return quantize
