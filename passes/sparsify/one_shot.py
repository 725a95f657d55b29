"""Make a trained network sparse at once, whatever framework it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from autoprune.passes.pruning.given import Given
from autoprune.passes.sparsify.distribution import Distribution, Layer, find_levels
from autoprune.passes.sparsify.gram import Calibration
from autoprune.passes.sparsify.layout import Array, Mask, Scores
from autoprune.passes.sparsify.masks import (
    WEIGHT_CRITERIA,
    WeightCriterion,
    check_sparsity,
    no_sparsity,
)
from autoprune.passes.sparsify.reconstruction import reconstruct
from autoprune.passes.sparsify.result import SparseResult
from autoprune.passes.sparsify.selection import SparseWeight
from autoprune.passes.sparsify.specs import FormatSpec
from autoprune.report.progress import each
from autoprune.report.sparsity import SparseRow

SPARSITY = 0.8
"""Share of the weights that is removed where none is asked for: from about there on, sparse
kernels are clearly faster than dense ones."""

W = TypeVar("W", bound=SparseWeight)


@dataclass(frozen=True, eq=False)
class Request:
    """What to make sparse, and how; arguments of `autoprune.sparsify`."""

    format: FormatSpec
    sparsity: float | None
    ignore: tuple[str, ...]
    distribution: str | Distribution
    criterion: str | WeightCriterion
    rearrange: bool = False

    def scores(self, matrix: Array) -> Scores:
        """Importance of the weights of a matrix."""
        return np.asarray(WEIGHT_CRITERIA.resolve(self.criterion)(matrix), np.float64)


def sparsify(
    given: Given, calibration: Iterable[Any] | None, request: Request
) -> SparseResult[Any]:
    """`autoprune.sparsify`; arguments and errors as there."""
    WEIGHT_CRITERIA.resolve(request.criterion)
    given.check_framework("`sparsify`")
    if given.is_onnx:
        from autoprune.passes.sparsify.onnx_model import sparsify_onnx

        return sparsify_onnx(given, calibration, request)
    from autoprune.passes.sparsify.torch_model import sparsify_module

    return sparsify_module(given, calibration, request)


def open_sparsity(weights: Sequence[SparseWeight], sparsity: float | None) -> float:
    """The sparsity of the weights whose format leaves it open, if one was asked for or not.

    Raises:
        BudgetError: if it is no fraction, or was given although no format leaves it open.
    """
    if sparsity is None:
        return SPARSITY
    check_sparsity(sparsity)
    if all(weight.format.levels(weight.shape) is None for weight in weights):
        raise no_sparsity(weights[0].format, sparsity)
    return float(sparsity)


def make_sparse(
    weights: Sequence[W],
    read: Callable[[W], Array],
    write: Callable[[W, Array, Mask], Array],
    request: Request,
    sparsity: float,
    calibration: Calibration | None,
) -> tuple[SparseRow, ...]:
    """Make one weight after the other sparse; each sees what was done to those before it.

    Args:
        weights: the weights.
        read: the matrix of a weight.
        write: puts a matrix and its mask in place of a weight; returns the parameter as it is then.
        request: how.
        sparsity: of the weights whose format leaves it open.
        calibration: the network on calibration data; None to keep what is important as it is.
    """
    layers = {
        w.name: Layer(request.scores(read(w)), w.format, w.dims)
        for w in weights
        if w.format.levels(w.shape) is not None
    }
    kept = find_levels(layers, sparsity, request.distribution)
    rows = []
    for weight in each(weights, "making weights sparse"):
        gram, format, keep = None, weight.format, kept.get(weight.name)
        if calibration is not None:
            gram = calibration.gram(weight.name, transposed=weight.transposed)
        values, error = read(weight), None
        if gram is None:
            mask = format.choose(request.scores(values), keep)
            values = np.where(mask, values, values.dtype.type(0))
        else:
            share = None if keep is None else 1 - keep / layers[weight.name].levels
            found = reconstruct(values, gram, format, share)
            mask, values, error = found.mask, found.weight, found.error
        parameter = write(weight, values, mask)
        if calibration is not None:
            calibration.change(weight.name, parameter)
        rows.append(row_of(weight, int(mask.sum()), error))
    return tuple(rows)


def row_of(weight: SparseWeight, kept: int, error: float | None = None) -> SparseRow:
    """What became of a weight of which so many numbers were kept."""
    outputs, inputs = weight.shape
    sparsity = 1 - kept / (outputs * inputs)
    return SparseRow(weight.name, weight.shape, str(weight.format), sparsity, error)
