"""Matrices seen as tiles of equal size, the last ones of which may stick out."""

from __future__ import annotations

import numpy as np

from autoprune.passes.sparsify.layout import Array, Mask, Scores


def tiled(matrix: Array, rows: int, cols: int) -> Array:
    """Cut a matrix into tiles; shape [tile rows, tile columns, rows, cols], padded with zeros."""
    outputs, inputs = matrix.shape
    padded = np.pad(matrix, ((0, -outputs % rows), (0, -inputs % cols)))
    split = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // cols, cols)
    return split.transpose(0, 2, 1, 3)


def spread(tiles: Array, rows: int, cols: int, shape: tuple[int, int]) -> Array:
    """The matrix of a shape in which every tile has one value; the inverse of reducing `tiled`."""
    return tiles.repeat(rows, axis=0).repeat(cols, axis=1)[: shape[0], : shape[1]]


def tile_sums(scores: Scores, rows: int, cols: int) -> Scores:
    """Sums over tiles; shape [tile rows, tile columns]."""
    return np.asarray(tiled(scores, rows, cols).sum(axis=(2, 3)))


def kept_tiles(mask: Mask, rows: int, cols: int) -> Mask:
    """Tiles of which anything is kept; shape [tile rows, tile columns]."""
    return np.asarray(tiled(mask, rows, cols).any(axis=(2, 3)))


def highest(scores: Scores, keep: int) -> Mask:
    """The `keep` highest along the last axis (all, if there are fewer); among equals, the first."""
    size = scores.shape[-1]
    if not 0 < keep < size:
        return np.full(scores.shape, keep > 0)
    # Not by sorting, which takes ten times as long.
    least = np.partition(scores, size - keep, axis=-1)[..., size - keep, None]
    above, equal = scores > least, scores == least
    room = keep - above.sum(axis=-1, keepdims=True)
    mask: Mask = above | (equal & (np.cumsum(equal, axis=-1) <= room))
    return mask


def span(what: str, first: int, count: int, size: int) -> str:
    """How messages name a range of outputs or inputs."""
    last = min(first + count, size) - 1
    return f"{what} {first}" if last == first else f"{what}s {first} to {last}"
