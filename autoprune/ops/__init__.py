"""Operator families: what each operator does to axes, to zeros, to cost and to its arguments.

Importing this package registers every family.
"""

from autoprune.ops import (
    attention,
    convolution,
    creation,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    recurrent,
    reduction,
    shape,
)

__all__ = [
    "attention",
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "linear",
    "normalization",
    "pooling",
    "recurrent",
    "reduction",
    "shape",
]
