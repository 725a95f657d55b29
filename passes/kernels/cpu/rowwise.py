"""Linear layers, sparse in blocks of outputs at one input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS
from autoprune.passes.kernels.cpu.products import check_size, divided, suffix, weights_of
from autoprune.passes.kernels.encoding import floats, stored_share
from autoprune.passes.kernels.kernel import Candidate, Kernel, Lowered, Product, Steps
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Target
from autoprune.passes.kernels.tiles import divisor, rowwise_tiles
from autoprune.passes.sparsify.layout import Array

ROWS = (64, 32, 16, 8)
"""Outputs of a block that are tried."""


@define
@dataclass(frozen=True)
class Rowwise(Kernel):
    """Outputs along the vectors."""

    name = "rowwise"
    operator = "SparseLinear"
    rowwise = True
    several = True

    rows: int
    activation: str = ""
    residual: bool = False

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Linear layers."""
        for rows in ROWS if product.rowwise else ():
            kernel = cls(rows, product.activation, product.added is not None)
            stored = stored_share(product.weight, rows)
            yield Candidate(kernel, stored, stored)

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return floats(product, self.rows)

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
        return f"rowwise_{self.rows}x{self.tile}{divided(self.parts)}{suffix(self)}"

    def primitive(self) -> Any:
        return _rowwise(self)


def _rowwise(kernel: RowwiseTile) -> Any:
    rows, tile, parts, width = kernel.rows, kernel.tile, kernel.parts, kernel.width
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual

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
                    acc = T.alloc_buffer((tile * width,), "float32")
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            acc[m * width + r] = B[first + o, part * width + r]
                    for b in T.serial(P[first + o + 1] - P[first + o]):
                        for m in T.unroll(tile):
                            for r in T.vectorized(width):
                                acc[m * width + r] += (
                                    V[P[first + o] + b, part * width + r]
                                    * X[start + t * tile + m, I[P[first + o] + b]]
                                )
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            Y[start + t * tile + m, (first + o) * rows + part * width + r] = (
                                activation(
                                    acc[m * width + r]
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
