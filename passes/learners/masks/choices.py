"""Sparse formats in torch: what they keep or remove together, and how they choose among it.

The formats of `passes.sparsify` choose in numpy. Training chooses in every step, on the device, and
some of it by derivatives; so the formats known there are seen here as rows of choices, of each of
which as many are kept: all blocks of a matrix are one row, every M inputs are one for N:M, and all
inputs of an output are one for constant fan-in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from autoprune.passes.sparsify.formats.blocks import Blocks
from autoprune.passes.sparsify.formats.patterns import NM, ConstantFanIn
from autoprune.passes.sparsify.layout import Format


@dataclass(frozen=True)
class Choices:
    """The choices that a format has on a matrix.

    Attributes:
        shape: outputs and inputs of the matrix.
        tile: outputs and inputs that are kept or removed together.
        width: choices of a row, along the inputs; None for a single row of all choices.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    width: int | None

    def rows(self, values: Tensor) -> Tensor:
        """Sums of the values of each choice; shape [rows, choices of a row], padded with zeros."""
        (outputs, inputs), (high, wide) = self.shape, self.tile
        values = pad(values, (0, -inputs % wide, 0, -outputs % high))
        tiles = values.reshape(values.shape[0] // high, high, values.shape[1] // wide, wide)
        sums = tiles.sum(dim=(1, 3)) if high * wide > 1 else tiles[:, 0, :, 0]
        if self.width is None:
            return sums.reshape(1, -1)
        return pad(sums, (0, -sums.shape[1] % self.width)).reshape(-1, self.width)

    def spread(self, rows: Tensor) -> Tensor:
        """The matrix in which every weight has the value of its choice."""
        (outputs, inputs), (high, wide) = self.shape, self.tile
        tiles = rows.reshape(-(-outputs // high), -1)[:, : -(-inputs // wide)]
        if high > 1:
            tiles = tiles.repeat_interleave(high, dim=0)[:outputs]
        if wide > 1:
            tiles = tiles.repeat_interleave(wide, dim=1)[:, :inputs]
        return tiles


def choices_of(format: Format, shape: tuple[int, int]) -> Choices | None:
    """The choices of a format on a matrix; None for a format that is not one of ours."""
    if isinstance(format, Blocks):
        return Choices(shape, format.tile, None)
    if isinstance(format, NM):
        return Choices(shape, (format.shared, 1), format.m)
    if isinstance(format, ConstantFanIn):
        return Choices(shape, (1, 1), shape[1])
    return None


def highest(rows: Tensor, keep: int) -> Tensor:
    """Mask of the `keep` highest of each row (all, if there are fewer); among equals, the first."""
    size = rows.shape[1]
    if not 0 < keep < size:
        return torch.full_like(rows, keep > 0, dtype=torch.bool)
    least = rows.topk(keep, dim=1, sorted=True).values[:, -1:]
    above, equal = rows > least, rows == least
    room = keep - above.sum(dim=1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=1) <= room))


def dense_and_final(format: Format, shape: tuple[int, int]) -> tuple[int, int | None]:
    """Levels at which a matrix is dense, and at which it is as sparse as the format says.

    The latter is None for a format that does not say how much is kept. Levels of N:M are the inputs
    of a group that are kept, those of constant fan-in the inputs; those of another format that says
    how much is kept are 1 and 0.
    """
    levels = format.levels(shape)
    if levels is not None:
        return levels, None
    if isinstance(format, NM):
        return format.m, format.n
    if isinstance(format, ConstantFanIn) and format.k is not None:
        return shape[1], min(format.k, shape[1])
    return 1, 0


def choose(format: Format, scores: Tensor, keep: int) -> Tensor:
    """The mask that keeps so many levels with the highest summed scores.

    As `Format.choose`, and where that has no levels, denser masks on the way to the format.

    Args:
        format: which masks are allowed.
        scores: importance of each weight, 0 or more; shape [outputs, inputs].
        keep: a number up to that of `dense_and_final`.
    """
    outputs, inputs = scores.shape
    choices = choices_of(format, (outputs, inputs))
    if choices is not None:
        return choices.spread(highest(choices.rows(scores), keep))
    says = format.levels((outputs, inputs)) is None
    if says and keep:
        return torch.ones_like(scores, dtype=torch.bool)
    mask = format.choose(scores.double().numpy(force=True), None if says else keep)
    return torch.from_numpy(np.ascontiguousarray(mask)).to(scores.device)
