"""Elementary functions of float32 vectors, without calls into a library of scalars.

The polynomials are Chebyshev interpolants that numpy computes here; their error is below that of
float32 itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import erf as exact_erf
from math import exp as exact_exp
from math import log, pi, sqrt
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, chebyshev
from tvm.script import tirx as T

ERF_LIMIT = 4.0
"""From here on erf rounds to 1 in float32."""

EXP_LIMIT = 87.0
"""The exponential of larger numbers leaves the range of float32."""


@cache
def _polynomial(name: str, degree: int) -> tuple[tuple[float, ...], float, float]:
    """Coefficients, lowest first, of a variable between -1 and 1; its centre and half width."""
    functions: dict[str, tuple[Callable[[float], float], float, float]] = {
        # erf(x) = x f(x^2), where f is smooth.
        "erf": (lambda z: exact_erf(sqrt(z)) / sqrt(z) if z else 2 / sqrt(pi), 0, ERF_LIMIT**2),
        "exp": (exact_exp, -log(2) / 2, log(2) / 2),
    }
    function, low, high = functions[name]
    found = Chebyshev.interpolate(np.vectorize(function), degree, domain=(low, high))
    powers = chebyshev.cheb2poly(found.coef)
    return tuple(float(c) for c in powers), (low + high) / 2, (high - low) / 2


def _horner(coefficients: Sequence[float], x: Any) -> Any:
    value = T.float32(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * x + T.float32(c)
    return value


def erf(x: Any) -> Any:
    """The error function, to about 2e-7."""
    coefficients, centre, half = _polynomial("erf", 14)
    inside = T.min(T.max(x, T.float32(-ERF_LIMIT)), T.float32(ERF_LIMIT))
    z = (inside * inside - T.float32(centre)) * T.float32(1 / half)
    return inside * _horner(coefficients, z)


def exp(x: Any) -> Any:
    """The exponential, to about 2e-7 of its value, for numbers from -87 to 87."""
    coefficients, _, half = _polynomial("exp", 6)
    inside = T.min(T.max(x, T.float32(-EXP_LIMIT)), T.float32(EXP_LIMIT))
    power = T.floor(inside * T.float32(1 / log(2)) + T.float32(0.5))
    rest = inside - power * T.float32(log(2))
    # Of a vector as well as of a number.
    lanes = f"x{x.ty.dtype.lanes}" if x.ty.dtype.lanes > 1 else ""
    exponent = T.Cast(f"int32{lanes}", power) + 127
    return _horner(coefficients, rest * T.float32(1 / half)) * T.reinterpret(
        f"float32{lanes}", T.shift_left(exponent, 23)
    )
