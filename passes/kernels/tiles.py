"""Sizes of tiles: those that were measured, and those that registers suggest.

`benchmarks/tiles.py` measures, and writes to tiles.json what is faster than what registers suggest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from autoprune.passes.kernels.target import Target

TABLE = Path(__file__).with_name("tiles.json")

Tiles = tuple[tuple[int, int], ...]
"""Of falling size, the last of one position. Positions and parts of a block for `Rowwise`, elements
and vectors for `Spatial`."""

ACCUMULATORS = 1024
"""Bytes; from here on TVM does not keep them in registers."""

MOST = ACCUMULATORS // 4 - 1
"""Sums of a tile."""


@cache
def _table() -> dict[str, dict[str, list[list[int]]]]:
    table: dict[str, dict[str, list[list[int]]]] = json.loads(TABLE.read_text())
    return table


def measured_tiles(cpu: str, kernel: str, rows: int) -> Tiles:
    """What was measured; empty if that is not faster than what registers suggest.

    Args:
        cpu: the processor, as LLVM calls it.
        kernel: `spatial`, `rowwise` or `rowwise8`.
        rows: outputs of a block.
    """
    found = _table().get(cpu, {}).get(f"{kernel} {rows}", ())
    return tuple((first, second) for first, second in found)


def spatial_tiles(target: Target, rows: int) -> Tiles:
    """For `Spatial`: what was measured, or what registers suggest."""
    found = measured_tiles(target.cpu, "spatial", rows)
    return found or suggested_spatial(target.lanes, target.registers, rows)


def rowwise_tiles(target: Target, kernel: str, lanes: int, rows: int) -> Tiles:
    """The same for `Rowwise`, whose sums are vectors of `lanes`."""
    found = measured_tiles(target.cpu, kernel, rows)
    return found or suggested_rowwise(lanes, target.registers, rows)


def suggested_spatial(lanes: int, registers: int, rows: int) -> Tiles:
    """For `Spatial`: half of the registers for accumulators.

    Args:
        lanes: float32 numbers of a vector.
        registers: vectors that the processor holds.
        rows: outputs of a block.
    """
    while rows * lanes > MOST:
        lanes //= 2
    vectors = max(1, min(registers // 2 // rows, MOST // (rows * lanes), 12))
    return falling_spatial(lanes, vectors)


def falling_spatial(lanes: int, vectors: int) -> Tiles:
    """A tile of some vectors, and smaller ones for the rest."""
    counts = (vectors, max(1, vectors // 3), 1)
    return tuple(dict.fromkeys((*((lanes, count) for count in counts), (1, 1))))


def suggested_rowwise(lanes: int, registers: int, rows: int) -> Tiles:
    """For `Rowwise`: the most products for each number that is loaded, all sums in registers.

    Args:
        lanes: numbers of a vector.
        registers: vectors that the processor holds.
        rows: outputs of a block.
    """

    def products(pair: tuple[int, int]) -> float:
        tile, parts = pair
        vectors = max(1, rows // parts // lanes)
        return tile * vectors / (tile + vectors)

    # Of more positions at once, most numbers of positions leave a rest that takes longer.
    sizes = ((min(8, largest_tile(lanes, registers, rows, p)), p) for p in divisions(lanes, rows))
    tile, parts = max(sizes, key=products)
    return falling_rowwise(lanes, registers, rows, tile, parts)


def falling_rowwise(lanes: int, registers: int, rows: int, tile: int, parts: int) -> Tiles:
    """A tile of some positions, of each block in some parts, and smaller ones for the rest."""
    sizes = [size for size in (8, 4, 2) if size < tile][:2]
    smaller = [(size, _parts(lanes, registers, rows, size)) for size in sizes]
    # For one position the weights are read once, whatever is in registers.
    return tuple(dict.fromkeys(((tile, parts if tile > 1 else 1), *smaller, (1, 1))))


def divisions(lanes: int, rows: int) -> Sequence[int]:
    """Parts that a block can have."""
    return [parts for parts in (1, 2, 4, 8) if parts == 1 or rows // parts >= lanes]


def largest_tile(lanes: int, registers: int, rows: int, parts: int) -> int:
    """Positions whose sums leave registers for the weights of a part, and for an activation."""
    width = rows // parts
    vectors = max(1, width // lanes)
    return max(1, min((registers - 1 - vectors) // vectors, MOST // width, 16))


def _parts(lanes: int, registers: int, rows: int, tile: int) -> int:
    """As few as such a tile can have."""
    found = divisions(lanes, rows)
    return next(
        (parts for parts in found if largest_tile(lanes, registers, rows, parts) >= tile), found[-1]
    )


def divisor(positions: int | None, rows: int) -> int:
    """The largest tile that divides the positions; 1 if their number varies."""
    if positions is None:
        return 1
    return next(n for n in range(min(MOST // rows, positions), 0, -1) if positions % n == 0)
