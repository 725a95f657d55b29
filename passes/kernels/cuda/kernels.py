"""The kernels for CUDA by their sizes, and which of them is for how many positions.

Nothing here needs TVM or torch: a library of kernels is used where it was not built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WARP = 32
"""Threads that run in step."""

DEPTH = 64
"""Inputs whose activations are in shared memory at once."""

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


Kernel = Split | Tiled


def _suffix(kernel: Kernel) -> str:
    activation = f"_{kernel.activation}" if kernel.activation else ""
    return f"{activation}{'_add' * kernel.residual}_{kernel.dtype}"


def _check(kernel: Kernel) -> None:
    if kernel.rows not in ROWS or kernel.dtype not in DTYPES:
        raise ValueError(f"{kernel}: rows are one of {ROWS}, dtype is one of {DTYPES}")


def family(
    rows: int, activation: str = "", *, residual: bool = False, dtype: str = "float32"
) -> tuple[Kernel, ...]:
    """The kernels of a layer, for rising numbers of positions.

    Raises:
        ValueError: if there are none for such blocks or numbers.
    """
    few = (Split(rows, tile, activation, residual, dtype) for tile in (1, 2, 4, 8))
    return *few, Tiled(rows, activation, residual, dtype)


def choose(kernels: Sequence[Kernel], positions: int) -> Kernel:
    """The kernel of a family for a number of positions."""
    *few, many = kernels
    if positions > SPLIT_POSITIONS:
        return many
    return next((kernel for kernel in few if kernel.tile >= positions), few[-1])
