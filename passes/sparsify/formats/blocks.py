"""Formats that keep or remove whole blocks, of one weight at the least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprune.errors import FormatError
from autoprune.passes.sparsify.layout import (
    Array,
    Encoded,
    Mask,
    Scores,
    as_index,
    offsets,
    require_fit,
)
from autoprune.passes.sparsify.registry import FAMILIES, Family
from autoprune.passes.sparsify.tiles import highest, kept_tiles, span, spread, tile_sums, tiled

WORD = 16
"""Weights that a word of a bitmask tells of."""


class Blocks:
    """What all formats of independent blocks share: any of them may be kept."""

    @property
    def tile(self) -> tuple[int, int]:
        return 1, 1

    def fits(self, mask: Mask) -> str | None:
        rows, cols = self.tile
        kept = kept_tiles(mask, rows, cols)
        torn = np.argwhere(spread(kept, rows, cols, _shape(mask)) != mask)
        if not len(torn):
            return None
        row, col = torn[0] // (rows, cols) * (rows, cols)
        outputs = span("output", row, rows, mask.shape[0])
        inputs = span("input", col, cols, mask.shape[1])
        return f"the block of {outputs} and {inputs} is kept in part"

    def levels(self, shape: tuple[int, int]) -> int:
        rows, cols = self.tile
        return -(-shape[0] // rows) * -(-shape[1] // cols)

    def gains(self, scores: Scores) -> Scores:
        return -np.sort(-tile_sums(scores, *self.tile), axis=None)

    def choose(self, scores: Scores, keep: int | None = None) -> Mask:
        if keep is None:
            raise FormatError(f"the format {self} does not say how many blocks are kept")
        sums = tile_sums(scores, *self.tile)
        return spread(highest(sums.ravel(), keep).reshape(sums.shape), *self.tile, _shape(scores))


@dataclass(frozen=True)
class Block(Blocks):
    """Blocks of `rows` outputs and `cols` inputs, stored one block row after the other.

    Arrays:
        * `values` [blocks, cols, rows]: the weights of each block, outputs innermost. Blocks that
          stick out of the matrix are filled up with zeros.
        * `columns` int32 [blocks]: the first input of each block, rising in a block row. The last
          block of a row begins so early that it ends with the inputs, and its values have moved
          to their places; a kernel reads beyond the inputs only if there are fewer than `cols`.
        * `offsets` int32 [block rows + 1]: the first block of each block row.
    """

    rows: int
    cols: int

    def __post_init__(self) -> None:
        if min(self.rows, self.cols) < 1:
            raise FormatError(f"there are no blocks of {self.rows} x {self.cols}")

    def __str__(self) -> str:
        return f"block {self.rows}x{self.cols}"

    @property
    def tile(self) -> tuple[int, int]:
        return self.rows, self.cols

    def encode(self, weight: Array, mask: Mask) -> Encoded:
        require_fit(self, weight, mask)
        inputs = weight.shape[1]
        kept = kept_tiles(mask, *self.tile)
        blocks = tiled(np.where(mask, weight, weight.dtype.type(0)), *self.tile)
        values = blocks.transpose(0, 1, 3, 2)[kept]
        columns = np.nonzero(kept)[1] * self.cols
        beyond = -inputs % self.cols
        if beyond and inputs > self.cols:
            last = columns + self.cols > inputs
            values[last] = np.roll(values[last], beyond, axis=1)
            columns[last] -= beyond
        arrays = {
            "values": values,
            "columns": as_index(columns),
            "offsets": offsets(kept.sum(axis=1)),
        }
        return Encoded(self, _shape(weight), arrays)

    def decode(self, encoded: Encoded) -> Array:
        values, columns, starts = encoded.arrays.values()
        outputs, inputs = encoded.shape
        block_rows = len(starts) - 1
        dense = np.zeros((block_rows * self.rows, max(inputs, self.cols)), values.dtype)
        first = np.repeat(np.arange(block_rows) * self.rows, np.diff(starts))
        row = first[:, None, None] + np.arange(self.rows)
        col = columns[:, None, None] + np.arange(self.cols)[:, None]
        # The block that ends with the inputs reaches, by zeros, into the one before it.
        np.add.at(dense, (row, col), values)
        return dense[:outputs, :inputs]


@dataclass(frozen=True)
class CSR(Blocks):
    """Single weights, each with its input.

    Arrays:
        * `values` [kept]: output after output, inputs rising.
        * `columns` int32 [kept]: their inputs.
        * `offsets` int32 [outputs + 1]: the first weight of each output.
    """

    def __str__(self) -> str:
        return "csr"

    def encode(self, weight: Array, mask: Mask) -> Encoded:
        require_fit(self, weight, mask)
        columns = as_index(np.nonzero(mask)[1])
        arrays = {"values": weight[mask], "columns": columns, "offsets": offsets(mask.sum(axis=1))}
        return Encoded(self, _shape(weight), arrays)

    def decode(self, encoded: Encoded) -> Array:
        values, columns, starts = encoded.arrays.values()
        dense = np.zeros(encoded.shape, values.dtype)
        dense[np.repeat(np.arange(len(dense)), np.diff(starts)), columns] = values
        return dense


@dataclass(frozen=True)
class Bitmask(Blocks):
    """Single weights, and a bit for every weight that says whether it is there.

    Arrays:
        * `values` [kept]: output after output, inputs rising.
        * `words` uint16 [outputs, inputs / 16, rounded up]: bit `b` of word `w` stands for input
          `16 w + b`.
        * `offsets` int32 [outputs + 1]: the first weight of each output.
    """

    def __str__(self) -> str:
        return "bitmask"

    def encode(self, weight: Array, mask: Mask) -> Encoded:
        require_fit(self, weight, mask)
        padded = np.pad(mask, ((0, 0), (0, -mask.shape[1] % WORD)))
        words = np.packbits(padded, axis=1, bitorder="little").view("<u2")
        arrays = {"values": weight[mask], "words": words, "offsets": offsets(mask.sum(axis=1))}
        return Encoded(self, _shape(weight), arrays)

    def decode(self, encoded: Encoded) -> Array:
        values, words, _ = encoded.arrays.values()
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
        dense = np.zeros(encoded.shape, values.dtype)
        dense[bits[:, : encoded.shape[1]].astype(np.bool_)] = values
        return dense


def _shape(matrix: Array) -> tuple[int, int]:
    outputs, inputs = matrix.shape
    return outputs, inputs


FAMILIES.add("block", Family("block ROWSxCOLS", r"block (\d+)x(\d+)", Block))
FAMILIES.add("csr", Family("csr", "csr", CSR))
FAMILIES.add("bitmask", Family("bitmask", "bitmask", Bitmask))
