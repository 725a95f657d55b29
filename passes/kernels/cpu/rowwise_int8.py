"""Linear layers of 8-bit integers.

Four inputs are multiplied at a time, by the processor's dot product instruction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.cpu.dot import dot_vectors, dot_written_out
from autoprune.passes.kernels.cpu.products import BlockKernel, finished, weights_of
from autoprune.passes.kernels.cpu.rounding import Rounding
from autoprune.passes.kernels.cpu.rowwise import RowwiseTile
from autoprune.passes.kernels.encoding import LONGEST, integers, quadruples, stored_share
from autoprune.passes.kernels.geometry import TOGETHER
from autoprune.passes.kernels.kernel import Candidate, Lowered, Product, Steps
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Dot, Target
from autoprune.passes.kernels.tiles import rowwise_tiles
from autoprune.passes.sparsify.layout import Array

ROWS = (64, 32, 16)
"""Outputs of a block that are tried."""

QUANTUM = 16
"""What the inputs are a multiple of."""


@define
class RowwiseInt8(BlockKernel):
    """`Rowwise` in blocks of four inputs; every position is rounded by a scale of its own."""

    name = "rowwise8"
    operator = "SparseLinearInt8"
    precision = "int8"
    rowwise = True
    several = True

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Linear layers whose inputs come in sixteens."""
        inputs = product.weight.shape[1]
        if product.rowwise and inputs % QUANTUM == 0 and inputs <= LONGEST:
            for rows in ROWS:
                yield cls.offer(product, stored_share(quadruples(product), rows, TOGETHER), rows)

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return integers(product, self.rows)

    def lower(self, target: Target) -> Lowered:
        """As `Rowwise`, with vectors of sums."""
        dot = target.need_dot()
        tiles = tuple(
            RowwiseInt8Tile(self.rows, size, self.activation, self.residual, parts, dot=dot)
            for size, parts in rowwise_tiles(target, self.name, dot.lanes, self.rows)
        )
        rounding = Rounding("quantize", target.lanes, dot.offset)
        return Lowered(self.rows, tiles, rounding, offset=dot.offset)


@dataclass(frozen=True)
class RowwiseInt8Tile(RowwiseTile):
    """`RowwiseTile` for 8-bit weights and activations; a block has four inputs.

    Attributes:
        dot: the instruction, of whose lanes `rows` is a multiple.
    """

    kind = "rowwise8"

    dot: Dot = field(kw_only=True)

    def primitive(self) -> Any:
        return _rowwise_int8(self)


def _rowwise_int8(kernel: RowwiseInt8Tile) -> Any:
    """The kernel as a TVM function.

    Its arguments are those of `RowwiseTile`, with activations [positions, inputs / 4] and values
    that hold four bytes in an int32, and before the first position the scales of activations
    [positions] and of weights [block rows, rows], and the sums of each output's weights
    [block rows, rows], to which the offset of activations adds.
    """
    rows, tile, parts, width = kernel.rows, kernel.tile, kernel.parts, kernel.width
    dot, lanes, offset = kernel.dot, kernel.dot.lanes, kernel.dot.offset
    in_vectors = bool(dot.intrinsic)

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
                    row = T.meta_var(start + t * tile)
                    output = T.meta_var((first + o) * rows + part * width)
                    acc = T.alloc_buffer((tile * width,), "int32")
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            acc[m * width + r] = Z[first + o, part * width + r] * (-offset)
                    for b in T.serial(P[first + o + 1] - P[first + o]):
                        block = T.meta_var(P[first + o] + b)
                        if in_vectors:
                            for v in T.unroll(width // lanes):
                                for m in T.unroll(tile):
                                    to = T.meta_var(T.ramp(m * width + v * lanes, 1, lanes))
                                    acc[to] = dot_vectors(
                                        dot, acc[to],
                                        T.broadcast(X[row + m, I[block]], lanes),
                                        V[block, T.ramp(part * width + v * lanes, 1, lanes)],
                                    )  # fmt: skip
                        else:
                            for m in T.unroll(tile):
                                for r in T.vectorized(width):
                                    acc[m * width + r] += dot_written_out(
                                        dot, X[row + m, I[block]], V[block, part * width + r]
                                    )
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            Y[row + m, output + r] = finished(
                                kernel,
                                T.Cast("float32", acc[m * width + r])
                                * (S[first + o, part * width + r] * XS[row + m])
                                + B[first + o, part * width + r],
                                R, row + m, output + r,
                            )  # fmt: skip

    return product
