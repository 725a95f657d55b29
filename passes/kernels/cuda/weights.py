"""Weight matrices as the kernels for CUDA read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprune.passes.sparsify.formats.blocks import Block
from autoprune.passes.sparsify.layout import Array, Index
from autoprune.passes.sparsify.tiles import kept_tiles, spread

DEPTH = 64
"""Inputs whose activations are in shared memory at once."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A sparse matrix [outputs, inputs], of whichever format: blocks of some outputs at one input.

    Attributes:
        values: shape [blocks, rows], block row after block row, inputs rising; zeros where a block
            has more outputs than there are.
        index: int32 [blocks], their inputs.
        starts: int32 [block rows * chunks + 1], where the blocks of every block row and, within
            it, of every `DEPTH` inputs begin.
    """

    values: Array
    index: Index
    starts: Index


def pack(weight: Array, rows: int) -> Packed:
    """Store the blocks of which at least one weight is not zero.

    For a format of sparse weights take as `rows` the outputs of its tile: those of a block, those
    that share an N:M pattern, one for single weights.

    Args:
        weight: shape [outputs, inputs].
        rows: outputs of a block.
    """
    there = kept_tiles(weight != 0, rows, 1)
    mask = spread(there, rows, 1, (weight.shape[0], weight.shape[1]))
    values, columns, offsets = Block(rows, 1).encode(weight, mask).arrays.values()
    chunks = chunks_of(weight.shape[1])
    block_rows = np.repeat(np.arange(len(there)), np.diff(offsets))
    # Of block rows and chunks together, in the order in which blocks are stored.
    places = block_rows * chunks + columns // DEPTH
    starts = np.searchsorted(places, np.arange(len(there) * chunks + 1)).astype(np.int32)
    return Packed(values.reshape(-1, rows), columns, starts)


def chunks_of(inputs: int) -> int:
    """How many times `DEPTH` inputs there are, the last ones fewer."""
    return -(-inputs // DEPTH)
