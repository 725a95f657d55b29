"""Activations that kernels apply to what they computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.functions import erf, exp


def _relu(x: Any) -> Any:
    return T.max(x, T.float32(0))


def _relu6(x: Any) -> Any:
    return T.min(T.max(x, T.float32(0)), T.float32(6))


def _silu(x: Any) -> Any:
    return x / (T.float32(1) + exp(-x))


def _hardswish(x: Any) -> Any:
    return x * T.min(T.max(x + T.float32(3), T.float32(0)), T.float32(6)) * T.float32(1 / 6)


def _gelu(x: Any) -> Any:
    return x * T.float32(0.5) * (T.float32(1) + erf(x * T.float32(0.5**0.5)))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "": lambda x: x, "relu": _relu, "relu6": _relu6, "silu": _silu,
    "hardswish": _hardswish, "gelu": _gelu,
}  # fmt: skip


def check_activation(name: str) -> None:
    """Check that there is an activation of a name.

    Raises:
        ValueError: if there is none.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"there is no activation {name!r}; known: {', '.join(ACTIVATIONS)}")
