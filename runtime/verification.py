"""Comparing outputs with those stored in an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .manifest import Tolerance


@dataclass(frozen=True, slots=True)
class Difference:
    """How far an output of a test vector is off.

    Attributes:
        example: which test vector.
        output: the name of the output.
        found: the largest difference; infinite if the shapes differ, or other elements are not
            finite than should be.
        allowed: the largest difference that passes.
    """

    example: int
    output: str
    found: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.found <= self.allowed

    def __str__(self) -> str:
        return f"{self.output}: off by {self.found:.2g}, {self.allowed:.2g} allowed"


@dataclass(frozen=True, slots=True)
class Verification:
    """What `Session.verify` found, all of it within the tolerance."""

    backend: str
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        examples = len({row.example for row in self.differences})
        lines = [f"{self.backend}: equal to the outputs of {examples} test vectors"]
        return "\n".join([*lines, *(f"  {row}" for row in self.differences)])


def largest_difference(
    found: NDArray[Any], expected: NDArray[Any], tolerance: Tolerance
) -> tuple[float, float]:
    """The largest difference of two arrays, and the largest allowed, which is 0 for integers."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf, 0.0
    if expected.dtype.kind != "f":
        return float(np.abs(_wide(found) - _wide(expected)).max(initial=0)), 0.0
    finite = np.isfinite(expected)
    magnitude = float(np.abs(_wide(expected[finite])).max(initial=0))
    allowed = tolerance.absolute + tolerance.relative * magnitude
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True):
        return np.inf, allowed
    difference = np.abs(_wide(found[finite]) - _wide(expected[finite])).max(initial=0)
    return float(np.inf if np.isnan(difference) else difference), allowed


def _wide(array: NDArray[Any]) -> NDArray[np.float64]:
    return array.astype(np.float64)
