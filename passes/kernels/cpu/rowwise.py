"""Linear layers, sparse in blocks of outputs at one input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.script import tirx as T

from autoprune.passes.kernels.cpu.products import (
    BlockKernel,
    check_size,
    finished,
    suffix,
    weights_of,
)
from autoprune.passes.kernels.encoding import stored_share
from autoprune.passes.kernels.kernel import Candidate, Lowered, Product
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Target
from autoprune.passes.kernels.tiles import divisor, rowwise_tiles

ROWS = (64, 32, 16, 8)
"""Outputs of a block that are tried."""


@define
class Rowwise(BlockKernel):
    """Outputs along the vectors."""

    name = "rowwise"
    operator = "SparseLinear"
    rowwise = True
    several = True

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Linear layers."""
        for rows in ROWS if product.rowwise else ():
            yield cls.offer(product, stored_share(product.weight, rows), rows)

    def lower(self, target: Target) -> Lowered:
        """Tiles as registers or measurements suggest."""
        tiles = rowwise_tiles(target, self.name, target.lanes, self.rows)
        return Lowered(self.rows, tuple(self._tile(*tile) for tile in tiles))

    def exactly(self, positions: int | None) -> RowwiseTile:
        """Of as many positions as accumulators hold."""
        return self._tile(divisor(positions, self.rows))

    def _tile(self, size: int, parts: int = 1) -> RowwiseTile:
        return RowwiseTile(self.rows, size, self.activation, self.residual, parts)


@dataclass(frozen=True)
class RowwiseTile:
    """A product with outputs along the vectors: Y[m, o] = sum over k of W[o, k] X[m, k].

    Attributes:
        rows: outputs of a block, a multiple of the processor's vectors.
        tile: positions that are computed at once.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
        parts: a block is computed in so many, one after the other, each of whole vectors.
    """

    kind: ClassVar[str] = "rowwise"

    rows: int
    tile: int
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
        parts = f"_{self.parts}" if self.parts > 1 else ""
        return f"{self.kind}_{self.rows}x{self.tile}{parts}{suffix(self)}"

    def primitive(self) -> Any:
        return _rowwise(self)


def _rowwise(kernel: RowwiseTile) -> Any:
    rows, tile, parts, width = kernel.rows, kernel.tile, kernel.parts, kernel.width

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, offsets: T.handle, bias: T.handle,
        added: T.handle, y: T.handle,
        start: T.int32, tiles: T.int32, first: T.int32, last: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        inputs = T.int32()
        positions = T.int32()
        outputs = T.int32()
        X = T.match_buffer(x, (positions, inputs), "float32", align=4)
        V, I, P, B = weights_of(rows, values, index, offsets, bias)  # noqa: E741
        R = T.match_buffer(added, (positions, outputs), "float32", align=4)
        Y = T.match_buffer(y, (positions, outputs), "float32", align=4)
        for t in T.serial(tiles):
            for o in T.serial(last - first):
                for part in T.unroll(parts):
                    row = T.meta_var(start + t * tile)
                    output = T.meta_var((first + o) * rows + part * width)
                    acc = T.alloc_buffer((tile * width,), "float32")
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            acc[m * width + r] = B[first + o, part * width + r]
                    for b in T.serial(P[first + o + 1] - P[first + o]):
                        block = T.meta_var(P[first + o] + b)
                        for m in T.unroll(tile):
                            for r in T.vectorized(width):
                                acc[m * width + r] += (
                                    V[block, part * width + r] * X[row + m, I[block]]
                                )
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            Y[row + m, output + r] = finished(
                                kernel, acc[m * width + r], R, row + m, output + r
                            )

    return product
