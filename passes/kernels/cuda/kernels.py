"""The kernel for CUDA, its functions by their sizes, and which of them is for how many positions.

Only writing functions needs TVM: a library of kernels is used where it was not built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.passes.kernels.cuda.weights import pack
from autoprune.passes.kernels.kernel import Candidate, Kernel, Lowered, Product, Steps
from autoprune.passes.kernels.registry import DENSEST, define
from autoprune.passes.kernels.target import Target
from autoprune.passes.sparsify.layout import Array
from autoprune.passes.sparsify.tiles import kept_tiles

WARP = 32
"""Threads that run in step."""

WARPS = 4
"""Of a thread block of `Tiled`: so many block rows share activations."""

THREADS = 256
"""Of a thread block of `Split`."""

ACCUMULATORS = 64
"""Sums that a thread of `Tiled` holds in registers."""

WIDEST = 64
"""Positions of a tile at most."""

SPLIT_POSITIONS = 16
"""From more positions on, `Tiled` is used."""

TRIED = (64, 32, 16, 8)
"""Outputs of a block that are tried, before single weights."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Outputs of a block."""

DTYPES = ("float32", "float16")
"""Of activations and weights."""


@dataclass(frozen=True)
class Split:
    """A product for few positions: a thread block for each block row.

    Attributes:
        rows: outputs of a block, one of `ROWS`.
        tile: positions that are computed at once.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
        dtype: of activations and weights, one of `DTYPES`.
    """

    rows: int
    tile: int
    activation: str = ""
    residual: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        _check(self)

    @property
    def threads(self) -> int:
        """Of a thread block."""
        return THREADS

    @property
    def block_rows(self) -> int:
        """That a thread block computes."""
        return 1

    @property
    def name(self) -> str:
        """Of the function."""
        return f"split_{self.rows}x{self.tile}{_suffix(self)}"

    def primitive(self) -> Any:
        from autoprune.passes.kernels.cuda.templates import primitive

        return primitive(self)


@dataclass(frozen=True)
class Tiled:
    """A product for many positions: a warp for each block row and each tile.

    Attributes:
        rows: outputs of a block, one of `ROWS`.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
        dtype: of activations and weights, one of `DTYPES`.
    """

    rows: int
    activation: str = ""
    residual: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        _check(self)

    @property
    def outputs(self) -> int:
        """Of a thread."""
        return min(self.rows, 8 if self.rows >= WIDEST else 4)

    @property
    def lanes(self) -> int:
        """Threads of a warp beside each other along the outputs of a block."""
        return self.rows // self.outputs

    @property
    def positions(self) -> int:
        """Of a thread."""
        return min(ACCUMULATORS // self.outputs, WIDEST * self.lanes // WARP)

    @property
    def tile(self) -> int:
        """Positions of a warp."""
        return self.positions * WARP // self.lanes

    @property
    def threads(self) -> int:
        """Of a thread block."""
        return WARPS * WARP

    @property
    def block_rows(self) -> int:
        """That a thread block computes."""
        return WARPS

    @property
    def name(self) -> str:
        """Of the function."""
        return f"tiled_{self.rows}x{self.tile}{_suffix(self)}"

    def primitive(self) -> Any:
        from autoprune.passes.kernels.cuda.templates import primitive

        return primitive(self)


Function = Split | Tiled


def _suffix(kernel: Function) -> str:
    activation = f"_{kernel.activation}" if kernel.activation else ""
    return f"{activation}{'_add' * kernel.residual}_{kernel.dtype}"


def _check(kernel: Function) -> None:
    if kernel.rows not in ROWS or kernel.dtype not in DTYPES:
        raise ValueError(f"{kernel}: rows are one of {ROWS}, dtype is one of {DTYPES}")


def family(
    rows: int, activation: str = "", *, residual: bool = False, dtype: str = "float32"
) -> tuple[Function, ...]:
    """The kernels of a layer, for rising numbers of positions.

    Raises:
        ValueError: if there are none for such blocks or numbers.
    """
    few = (Split(rows, tile, activation, residual, dtype) for tile in (1, 2, 4, 8))
    return *few, Tiled(rows, activation, residual, dtype)


def choose(kernels: Sequence[Function], positions: int) -> Function:
    """The kernel of a family for a number of positions."""
    *few, many = kernels
    if positions > SPLIT_POSITIONS:
        return many
    return next((kernel for kernel in few if kernel.tile >= positions), few[-1])


@define
@dataclass(frozen=True)
class RowwiseCuda(Kernel):
    """Linear layers on NVIDIA GPUs, for `build_cuda` and `SparseLinear` rather than for artifacts.

    Attributes:
        rows: outputs of a block.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
        dtype: of activations and weights, one of `DTYPES`.
    """

    name = "rowwise-cuda"
    device = "cuda"
    rowwise = True

    rows: int
    activation: str = ""
    residual: bool = False
    dtype: str = "float32"

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Linear layers; single weights where no blocks store little."""
        if not product.rowwise:
            return
        shares = {rows: stored_share(product.weight, rows) for rows in TRIED}
        if min(shares.values()) > DENSEST:
            shares = {1: stored_share(product.weight, 1)}
        residual, dtype = product.added is not None, product.weight.dtype.name
        for rows, share in shares.items():
            yield Candidate(cls(rows, product.activation, residual, dtype), share, share)

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        """Values, index, starts and bias; the last block may have more outputs than there are."""
        packed = pack(product.weight, self.rows)
        bias = np.zeros((-(-len(product.weight) // self.rows), self.rows), np.float32)
        bias.reshape(-1)[: len(product.bias)] = product.bias
        arrays = {"values": packed.values, "index": packed.index, "starts": packed.starts}
        return {**arrays, "bias": bias}

    def lower(self, target: Target | None = None) -> Lowered:
        """The same functions for every GPU."""
        tiles = family(self.rows, self.activation, residual=self.residual, dtype=self.dtype)
        return Lowered(self.rows, tiles)


def stored_share(weight: Array, rows: int) -> float:
    """Share of the weights in blocks that are stored, with outputs that blocks add."""
    return float(kept_tiles(weight != 0, rows, 1).sum() * rows / weight.size)
