"""What a sparse format is, and what it makes of a weight matrix.

A format is any object with the members of `Format`. `autoprune.testing.check_format` tells whether
it keeps its promises, `registry.FAMILIES.add` gives it a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from autoprune.errors import FormatError

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
"""True where a weight is kept; shape [outputs, inputs]."""
Scores = npt.NDArray[np.float64]
"""Importance of each weight, 0 or more; shape [outputs, inputs]."""


@dataclass(frozen=True)
class Encoded:
    """A sparse matrix as a kernel takes it.

    Attributes:
        format: what the arrays mean.
        shape: outputs and inputs of the matrix.
        arrays: the arguments of a kernel by name, in their order, `values` first; contiguous.
    """

    format: Format
    shape: tuple[int, int]
    arrays: Mapping[str, Array]

    def __post_init__(self) -> None:
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        object.__setattr__(self, "arrays", MappingProxyType(arrays))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, padding included."""
        return sum(array.nbytes for array in self.arrays.values())


class Format(Protocol):
    """Which weights may be kept together, and how they are stored."""

    @property
    def tile(self) -> tuple[int, int]:
        """Outputs and inputs that the pattern ties together, counted from the first.

        Exchanging two outputs (inputs) within a tile changes nothing that matters; 1 where
        exchanging any two does not.
        """

    def fits(self, mask: Mask) -> str | None:
        """Why a mask is not of this format, or None if it is."""

    def encode(self, weight: Array, mask: Mask) -> Encoded:
        """Store the kept weights; those not kept count as zero, whatever they are.

        Raises:
            FormatError: if the mask does not fit.
        """

    def decode(self, encoded: Encoded) -> Array:
        """The dense matrix, with zeros where nothing is stored."""

    def levels(self, shape: tuple[int, int]) -> int | None:
        """The number of equal steps in which a matrix can become sparse.

        None if the format itself says how much is kept.
        """

    def gains(self, scores: Scores) -> Scores:
        """Summed scores that each further level keeps, falling; the whole sum without levels."""

    def choose(self, scores: Scores, keep: int | None = None) -> Mask:
        """The mask that keeps the highest summed scores; among equals, the first.

        Args:
            scores: shape [outputs, inputs]. Scores may also be negative here: what is below all
                others is not kept as long as there are others.
            keep: how many levels; None if and only if the format has none.
        """


def require_fit(format: Format, weight: Array, mask: Mask) -> None:
    """Check what `encode` is given.

    Raises:
        FormatError: if the arrays are no matrix and mask of one shape, or the mask does not fit.
    """
    if weight.ndim != 2 or not weight.size:
        raise FormatError(
            f"weights of shape {list(weight.shape)} are not a matrix [outputs, inputs]",
            hint="reshape those of a convolution to [outputs, kernel * inputs]",
        )
    if mask.shape != weight.shape or mask.dtype != np.bool_:
        raise FormatError(
            f"a mask of {mask.dtype} {list(mask.shape)} is given for weights of shape "
            f"{list(weight.shape)}",
            hint="a mask is boolean and has the shape of the weights",
        )
    misfit = format.fits(mask)
    if misfit is not None:
        raise FormatError(
            f"the mask is not of the format {format}: {misfit}",
            hint="take one from find_mask, or a format that allows it",
        )


def as_index(array: Array) -> Index:
    """Positions or offsets as kernels read them.

    Raises:
        FormatError: if there are too many.
    """
    if array.size and array.max() > np.iinfo(np.int32).max:
        raise FormatError(
            "the matrix holds more weights than 32 bits count",
            hint="store it as several matrices",
        )
    return array.astype(np.int32)


def offsets(counts: Array) -> Index:
    """Where each of several runs begins, and where the last one ends; shape [runs + 1]."""
    return as_index(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))
