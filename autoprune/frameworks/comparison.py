"""How far two results are apart, and how far rounding may bring them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDING: Mapping[str, float] = {
    "float64": 1e-9,
    "float32": 1e-4,
    "float16": 5e-2,
    "bfloat16": 1e-1,
}
"""Largest relative difference that summing in another order explains in a deep network; mistakes
in the axes are of order one. Relative to the largest magnitude of the tensor."""

HUGE = 1e8
"""Magnitudes above this are masks, not results."""


def rounding(dtypes: Iterable[str]) -> float:
    """The rounding level of the least precise of the given dtypes; 0 if none is rounded."""
    return max((ROUNDING.get(dtype, 0.0) for dtype in dtypes), default=0.0)


def difference(a: Any, b: Any) -> float:
    """Largest relative difference between arrays, in lists or dicts; inf if they do not match."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            return float("inf")
        return max((difference(a[name], b[name]) for name in a), default=0.0)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return float("inf")
        return max((difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return array_difference(a, b)
    return 0.0 if a == b else float("inf")


def tolerance(results: Iterable[Any]) -> float:
    """The rounding level of the least precise array."""
    return rounding(v.dtype.name for v in results if isinstance(v, np.ndarray))


def array_difference(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Largest difference relative to what differs or is common; inf if not comparable.

    Equal infinities and NaNs in the same places count as equal; integers and strings must be
    the same.
    """
    if x.shape != y.shape or x.dtype != y.dtype:
        return float("inf")
    if not x.size:
        return 0.0
    if x.dtype.kind not in "fcV":
        return 0.0 if np.array_equal(x, y) else float("inf")
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    x, y = x.astype(wide), y.astype(wide)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(np.where(same, 0, x - y))
    if not np.isfinite(gap).all():
        return float("inf")
    # What differs is the yardstick, and large constants are not; but a few tiny numbers among
    # many that are equal to the last bit are measured by what is common in the tensor.
    size = np.abs(np.nan_to_num(x, posinf=np.inf, neginf=-np.inf))
    huge = size > HUGE
    common = np.median(size[~huge]) if not huge.all() else 0.0
    scale = max(size[~same & ~huge].max(initial=0.0), float(common)) or 1.0
    return float((gap / np.where(huge, np.maximum(size, 1.0), scale)).max())
