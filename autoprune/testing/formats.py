"""Prove or refute a sparse format by numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from autoprune.errors import FormatError
from autoprune.passes.sparsify.layout import Array, Encoded, Format, Mask
from autoprune.passes.sparsify.registry import parse_format

DTYPES = (np.float32, np.float64, np.int8)
"""Of weights."""


def check_format(format: Format, *, seed: int = 0) -> int:
    """Prove or refute that a format keeps what `passes.sparsify.layout.Format` promises.

    Matrices of all sizes around the format's tile are encoded and decoded under masks that the
    format chooses, and under any of these that fit: all, nothing, one weight, one tile, one output,
    one input, every other output, random weights.

    Args:
        format: the format.
        seed: of weights, scores and random masks.

    Returns:
        The number of matrices and masks tried.

    Raises:
        FormatError: if a promise is broken; where, is said by the message.
    """
    rng = np.random.default_rng(seed)
    rows, cols = format.tile
    tried = 0
    for outputs, inputs in product(_sizes(rows), _sizes(cols)):
        shape = (outputs, inputs)
        awkward = (m for m in _awkward(format.tile, shape, rng) if format.fits(m) is None)
        for mask in [*_chosen(format, shape, rng), *awkward]:
            _check_round_trip(format, mask, rng)
            tried += int(mask.any())
        _check_tile(format, shape, rng)
        _check_refusals(format, shape, rng)
    if not tried:
        raise FormatError(f"no mask that keeps anything fits the format {format}")
    _check_name(format)
    return tried


def _sizes(tile: int) -> list[int]:
    """Sizes around a tile, with and without a part of a tile at the end, and one beyond words."""
    return sorted({1, max(tile - 1, 1), tile, tile + 1, 3 * tile + tile // 2, 67})


def _chosen(format: Format, shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Mask]:
    """Masks that the format itself chooses, checked against what it says of levels and gains."""
    scores = rng.random(shape)
    levels = format.levels(shape)
    gains = format.gains(scores)
    keeps: set[int | None] = {None} if levels is None else {0, 1, levels // 2, levels}
    if gains.shape != (1 if levels is None else levels,):
        raise _refuted(format, shape, f"there are {levels} levels and {gains.shape} gains")
    if (np.diff(gains) > 1e-9).any():
        raise _refuted(format, shape, "gains rise")
    for keep in keeps:
        mask = format.choose(scores, keep)
        what = f"choose(scores, {keep})"
        if mask.shape != shape or mask.dtype != np.bool_:
            raise _refuted(format, shape, f"{what} is {mask.dtype} {mask.shape}")
        misfit = format.fits(mask)
        if misfit is not None:
            raise _refuted(format, shape, f"{what} does not fit: {misfit}")
        if not np.isclose(scores[mask].sum(), gains[:keep].sum()):
            raise _refuted(format, shape, f"{what} does not keep what the gains say")
        extreme = np.where(mask, scores.size, -scores.size).astype(np.float64)
        if (format.choose(extreme, keep) & ~mask).any():
            raise _refuted(format, shape, f"{what} does not keep the same if only those count")
        yield mask


def _awkward(
    tile: tuple[int, int], shape: tuple[int, int], rng: np.random.Generator
) -> Iterator[Mask]:
    rows, cols = tile
    nothing = np.zeros(shape, dtype=np.bool_)
    yield nothing
    yield ~nothing
    first = ((0, 0), (rng.integers(shape[0]), rng.integers(shape[1])), (shape[0] - 1, shape[1] - 1))
    for row, col in first:
        top, left = row // rows * rows, col // cols * cols
        for place in (
            (slice(row, row + 1), slice(col, col + 1)),
            (slice(top, top + rows), slice(left, left + cols)),
            (slice(top, top + rows), slice(col, col + 1)),
            (slice(row, row + 1), slice(None)),
            (slice(None), slice(col, col + 1)),
            (slice(top, top + rows), slice(None)),
        ):
            mask = nothing.copy()
            mask[place] = True
            yield mask
    for period in {1, rows}:
        yield np.broadcast_to((np.arange(shape[0]) // period % 2 == 0)[:, None], shape).copy()
    for density in (0.1, 0.5, 0.9):
        yield rng.random(shape) < density


def _check_round_trip(format: Format, mask: Mask, rng: np.random.Generator) -> None:
    for dtype in DTYPES:
        weight = rng.integers(-99, 99, mask.shape).astype(dtype)
        if np.issubdtype(dtype, np.floating):
            # What is removed counts as zero, also where it is no number.
            weight = np.where(mask, weight + rng.random(mask.shape).astype(dtype), np.nan)
            weight = weight.astype(dtype)
        expected = np.where(mask, weight, dtype(0))
        given = weight.copy(), mask.copy()
        encoded = format.encode(weight, mask)
        decoded = format.decode(encoded)
        if not all(map(_same, (weight, mask), given)):
            raise _refuted(format, mask.shape, "encode changes what it is given")
        if encoded.shape != mask.shape or "values" not in encoded.arrays:
            raise _refuted(format, mask.shape, "encode gives no `values`, or another shape")
        if decoded.dtype != dtype or decoded.shape != mask.shape:
            raise _refuted(
                format, mask.shape, f"{weight.dtype} weights become {decoded.dtype} {decoded.shape}"
            )
        wrong = np.argwhere(decoded != expected)
        if len(wrong):
            row, col = wrong[0]
            raise _refuted(
                format,
                mask.shape,
                f"of {mask.sum()} kept weights, output {row} and input {col} come back as "
                f"{decoded[row, col]}, not {expected[row, col]}",
            )
        _check_again(format, weight, mask, encoded)


def _check_again(format: Format, weight: Array, mask: Mask, encoded: Encoded) -> None:
    again = format.encode(weight, mask)
    if list(again.arrays) != list(encoded.arrays) or not all(
        _same(again.arrays[name], array) for name, array in encoded.arrays.items()
    ):
        raise _refuted(format, mask.shape, "encode gives something else the second time")


def _check_refusals(format: Format, shape: tuple[int, int], rng: np.random.Generator) -> None:
    for mask in _awkward(format.tile, shape, rng):
        if format.fits(mask) is not None and _accepts(format, np.ones(shape), mask):
            raise _refuted(format, shape, "encode takes a mask that does not fit")


def _check_tile(format: Format, shape: tuple[int, int], rng: np.random.Generator) -> None:
    """Exchange outputs, or inputs, within tiles, or at will where nothing is tied."""
    scores = rng.random(shape)
    for dim, tile in enumerate(format.tile):
        mixed = rng.permutation(shape[dim])
        order = mixed if tile == 1 else mixed[np.argsort(mixed // tile, kind="stable")]
        if not np.allclose(format.gains(scores.take(order, axis=dim)), format.gains(scores)):
            what = "inputs" if dim else "outputs"
            raise _refuted(format, shape, f"the order of {what} within tiles of {tile} matters")


def _check_name(format: Format) -> None:
    try:
        named: Any = parse_format(str(format))
    except FormatError:
        # Formats need not be known by name.
        return
    if named != format:
        raise FormatError(f"the name of {format!r} is that of {named!r}")


def _accepts(format: Format, weight: Array, mask: Mask) -> bool:
    try:
        format.encode(weight, mask)
    except FormatError:
        return False
    return True


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _refuted(format: Format, shape: tuple[int, ...], why: str) -> FormatError:
    return FormatError(f"the format {format} breaks its promises: {why}", where=f"shape {shape}")
