"""Block-sparse weights, encoded as kernels read them, and references in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

ACTIVATIONS = {
    "": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
}


@dataclass(frozen=True)
class Weights:
    """A matrix [outputs, inputs] whose nonzeros are in blocks of `rows` outputs at one input."""

    dense: np.ndarray
    values: np.ndarray
    index: np.ndarray
    offsets: np.ndarray
    bias: np.ndarray


def draw(rng, rows, block_rows, inputs, density):
    """Random weights; one block row is empty, one is full."""
    mask = rng.random((block_rows, inputs)) < density
    mask[0], mask[-1] = False, True
    dense = rng.standard_normal((block_rows * rows, inputs)) * np.repeat(mask, rows, 0)
    dense = dense.astype(np.float32)
    where = [(o, k) for o in range(block_rows) for k in np.flatnonzero(mask[o])]
    return Weights(
        dense,
        np.array([dense[o * rows : (o + 1) * rows, k] for o, k in where], np.float32),
        np.array([k for _, k in where], np.int32),
        np.concatenate([[0], np.cumsum(mask.sum(1))]).astype(np.int32),
        rng.standard_normal((block_rows, rows)).astype(np.float32),
    )


def reference(weights, x, activation, added=None, *, rowwise):
    """The product in float64."""
    w, bias = weights.dense.astype(np.float64), weights.bias.reshape(-1).astype(np.float64)
    x = x.astype(np.float64)
    if rowwise:
        y = x @ w.T + bias
    else:
        flat = x.reshape(*x.shape[:2], -1)
        y = (w @ flat + bias[:, None]).reshape(x.shape[0], -1, *x.shape[2:])
    return ACTIVATIONS[activation](y if added is None else y + added)


@dataclass(frozen=True)
class Integers:
    """A matrix of 8-bit integers in blocks of `rows` outputs at four inputs, with scales.

    `dense` is the matrix that they stand for.
    """

    dense: np.ndarray
    values: np.ndarray
    index: np.ndarray
    offsets: np.ndarray
    bias: np.ndarray
    scales: np.ndarray
    sums: np.ndarray


def draw_integers(rng, rows, block_rows, inputs, density):
    """Random integers; one block row is empty, one is full."""
    mask = rng.random((block_rows, inputs // 4)) < density
    mask[0], mask[-1] = False, True
    whole = rng.integers(-127, 128, (block_rows * rows, inputs), dtype=np.int8)
    whole = whole * np.repeat(np.repeat(mask, rows, 0), 4, 1).astype(np.int8)
    scales = rng.uniform(0.5, 2, (block_rows, rows)).astype(np.float32) / 127
    where = [(o, k) for o in range(block_rows) for k in np.flatnonzero(mask[o])]
    blocks = np.array([whole[o * rows : (o + 1) * rows, 4 * k : 4 * k + 4] for o, k in where])
    return Integers(
        whole * scales.reshape(-1, 1),
        np.ascontiguousarray(blocks.reshape(len(where), -1)).view(np.int32),
        np.array([k for _, k in where], np.int32),
        np.concatenate([[0], np.cumsum(mask.sum(1))]).astype(np.int32),
        rng.standard_normal((block_rows, rows)).astype(np.float32),
        scales,
        whole.sum(1, dtype=np.int32).reshape(block_rows, rows),
    )


def rounded_rows(x):
    """Activations rounded to 8 bits by a scale for each row, and the scales."""
    scale = np.abs(x).max(-1, keepdims=True) / 127
    return np.round(x / scale) * scale, scale
