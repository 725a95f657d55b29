"""Convolutions, sparse in blocks of outputs at one input and tap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS
from autoprune.passes.kernels.cpu.products import check_size, suffix, weights_of
from autoprune.passes.kernels.encoding import floats, stored_share
from autoprune.passes.kernels.kernel import Candidate, Kernel, Lowered, Product, Steps
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Target
from autoprune.passes.kernels.tiles import divisor, spatial_tiles
from autoprune.passes.sparsify.layout import Array

ROWS = (16, 8, 4, 1)
"""Outputs of a block that are tried."""

SINGLE = 1.7
"""Time for a weight that is stored alone, and loads activations for itself, by that in a block."""

LANES = (16, 8, 4, 2, 1)
"""Elements of a vector that are tried where the processor is left open; LLVM splits those that it
does not have."""


@define
@dataclass(frozen=True)
class Spatial(Kernel):
    """Positions along the vectors."""

    name = "spatial"
    operator = "SparseConv"
    padded = True
    with_depthwise = "SparseConvDepthwise"

    rows: int
    activation: str = ""
    residual: bool = False

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Convolutions without groups."""
        for rows in () if product.rowwise or product.depthwise else ROWS:
            kernel = cls(rows, product.activation, product.added is not None)
            stored = stored_share(product.weight, rows)
            yield Candidate(kernel, stored, stored * (SINGLE if rows == 1 else 1))

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return floats(product, self.rows)

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
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual

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
                    for v in T.unroll(vectors):
                        for r in T.unroll(rows):
                            for lane in T.vectorized(lanes):
                                acc[r * tile + v * lanes + lane] += (
                                    V[P[first + o] + b, r]
                                    * X[I[P[first + o] + b] + start + t * tile + v * lanes + lane]
                                )
                for r in T.unroll(rows):
                    for v in T.unroll(vectors):
                        for lane in T.vectorized(lanes):
                            Y[(first + o) * rows + r, start + t * tile + v * lanes + lane] = (
                                activation(
                                    acc[r * tile + v * lanes + lane]
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
