"""Convolutions, sparse in blocks of outputs at one input and tap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
from autoprune.passes.kernels.tiles import divisor, spatial_tiles

ROWS = (16, 8, 4, 1)
"""Outputs of a block that are tried."""

SINGLE = 1.7
"""Time for a weight that is stored alone, and loads activations for itself, by that in a block."""

LANES = (16, 8, 4, 2, 1)
"""Elements of a vector that are tried where the processor is left open; LLVM splits those that it
does not have."""


@define
class Spatial(BlockKernel):
    """Positions along the vectors."""

    name = "spatial"
    operator = "SparseConv"
    padded = True
    with_depthwise = "SparseConvDepthwise"

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Convolutions without groups."""
        for rows in () if product.rowwise or product.depthwise else ROWS:
            stored, factor = stored_share(product.weight, rows), SINGLE if rows == 1 else 1
            yield cls.offer(product, stored, rows, factor=factor)

    def lower(self, target: Target) -> Lowered:
        """Tiles as registers or measurements suggest."""
        tiles = spatial_tiles(target, self.rows)
        return Lowered(self.rows, tuple(self._tile(*tile) for tile in tiles))

    def exactly(self, positions: int | None) -> SpatialTile:
        """Of one vector or several."""
        tile = divisor(positions, self.rows)
        lanes = next(count for count in LANES if tile % count == 0)
        return self._tile(lanes, tile // lanes)

    def _tile(self, lanes: int, vectors: int) -> SpatialTile:
        return SpatialTile(self.rows, lanes, vectors, self.activation, self.residual)


@dataclass(frozen=True)
class SpatialTile:
    """A product with positions along the vectors: Y[o, m] = sum over k of W[o, k] X[I[k] + m].

    Attributes:
        rows: outputs of a block.
        lanes: elements of a vector.
        vectors: vectors of a tile.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
    """

    rows: int
    lanes: int
    vectors: int
    activation: str = ""
    residual: bool = False

    def __post_init__(self) -> None:
        check_size(self, self.rows * self.tile)

    @property
    def tile(self) -> int:
        """Positions of a tile."""
        return self.lanes * self.vectors

    @property
    def name(self) -> str:
        """Of the function."""
        return f"spatial_{self.rows}x{self.vectors}x{self.lanes}{suffix(self)}"

    def primitive(self) -> Any:
        return _spatial(self)


def _spatial(kernel: SpatialTile) -> Any:
    rows, lanes, vectors, tile = kernel.rows, kernel.lanes, kernel.vectors, kernel.tile

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, offsets: T.handle, bias: T.handle,
        added: T.handle, y: T.handle,
        start: T.int32, tiles: T.int32, first: T.int32, last: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        extent = T.int32()
        positions = T.int32()
        outputs = T.int32()
        X = T.match_buffer(x, (extent,), "float32", align=4)
        V, I, P, B = weights_of(rows, values, index, offsets, bias)  # noqa: E741
        R = T.match_buffer(added, (outputs, positions), "float32", align=4)
        Y = T.match_buffer(y, (outputs, positions), "float32", align=4)
        for t in T.serial(tiles):
            for o in T.serial(last - first):
                acc = T.alloc_buffer((rows * tile,), "float32")
                for r in T.unroll(rows):
                    for v in T.unroll(vectors):
                        for lane in T.vectorized(lanes):
                            acc[r * tile + v * lanes + lane] = B[first + o, r]
                for b in T.serial(P[first + o + 1] - P[first + o]):
                    block = T.meta_var(P[first + o] + b)
                    for v in T.unroll(vectors):
                        for r in T.unroll(rows):
                            for lane in T.vectorized(lanes):
                                acc[r * tile + v * lanes + lane] += (
                                    V[block, r] * X[I[block] + start + t * tile + v * lanes + lane]
                                )
                for r in T.unroll(rows):
                    for v in T.unroll(vectors):
                        for lane in T.vectorized(lanes):
                            output = T.meta_var((first + o) * rows + r)
                            at = T.meta_var(start + t * tile + v * lanes + lane)
                            Y[output, at] = finished(
                                kernel, acc[r * tile + v * lanes + lane], R, output, at
                            )

    return product
