"""Make a trained network sparse at once, whatever framework it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from autoprune.passes.pruning.given import Given
from autoprune.passes.sparsify.gram import Calibration
from autoprune.passes.sparsify.layout import Array, Format, Mask
from autoprune.passes.sparsify.result import SparseResult
from autoprune.passes.sparsify.single import (
    WEIGHT_CRITERIA,
    Matrix,
    Request,
    open_levels,
    sparse_matrix,
)
from autoprune.report.progress import each
from autoprune.report.sparsity import SparseRow


class SparseWeight(Protocol):
    """A weight that becomes sparse.

    Attributes:
        name: of the parameter.
        format: as a matrix [outputs, kernel * inputs].
        dims: its shape, [outputs, inputs, *kernel].
        transposed: whether the parameter is stored as [inputs, outputs].
    """

    @property
    def name(self) -> str: ...
    @property
    def format(self) -> Format: ...
    @property
    def dims(self) -> tuple[int, ...]: ...
    @property
    def transposed(self) -> bool: ...


W = TypeVar("W", bound=SparseWeight)


def sparsify(
    given: Given, calibration: Iterable[Any] | None, request: Request
) -> SparseResult[Any]:
    """`autoprune.sparsify`; arguments and errors as there."""
    if given.is_onnx:
        from autoprune.passes.sparsify.onnx_model import sparsify_onnx

        return sparsify_onnx(given, calibration, request)
    from autoprune.passes.sparsify.torch_model import sparsify_module

    return sparsify_module(given, calibration, request)


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
    score = WEIGHT_CRITERIA.resolve(request.criterion)
    matrices = ((w.name, Matrix(read(w), w.format, w.dims)) for w in weights)
    levels = open_levels(matrices, score, sparsity, request.distribution)
    rows = []
    for weight in each(weights, "making weights sparse"):
        gram = None
        if calibration is not None:
            gram = calibration.gram(weight.name, transposed=weight.transposed)
        keep, matrix = levels.get(weight.name), read(weight)
        mask, values, error = sparse_matrix(matrix, gram, weight.format, keep, score)
        parameter = write(weight, values, mask)
        if calibration is not None:
            calibration.change(weight.name, parameter)
        zero, (outputs, inputs) = 1 - int(mask.sum()) / mask.size, matrix.shape
        rows.append(SparseRow(weight.name, (outputs, inputs), str(weight.format), zero, error))
    return tuple(rows)
