"""Make a trained module sparse at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import TraceError
from autoprune.frameworks.torch.carried import carried_plan
from autoprune.frameworks.torch.equality import evaluating
from autoprune.frameworks.torch.trace import as_inputs, copy_of
from autoprune.passes.pruning.choose import check_finite
from autoprune.passes.pruning.given import Given
from autoprune.passes.sparsify.calibration import batches_of, correctable, second_moments
from autoprune.passes.sparsify.layout import Array, Mask
from autoprune.passes.sparsify.network_rearrangement import rearranged
from autoprune.passes.sparsify.result import SparseResult
from autoprune.passes.sparsify.single import (
    WEIGHT_CRITERIA,
    Matrix,
    Request,
    open_levels,
    open_sparsity,
    sparse_matrix,
)
from autoprune.passes.sparsify.weights import Found, Weight, find_weights
from autoprune.report.progress import each
from autoprune.report.sparsity import SparseRow, SparsityReport


def sparsify_module(
    given: Given, calibration: Iterable[Any] | None, request: Request
) -> SparseResult:
    """`autoprune.sparsify` of a module; arguments and errors as there."""
    model, example_inputs, dynamic_shapes = given.model, given.inputs, given.dynamic_shapes
    plan = carried_plan(model)
    inputs = None if example_inputs is None else as_inputs(example_inputs)
    batches = None if calibration is None else batches_of(calibration)
    score = WEIGHT_CRITERIA.resolve(request.criterion)
    sparse = copy_of(model)
    found = find_weights(sparse, request.format, request.ignore)
    check_weights(found)
    amount = find_sparsity(found.weights, request.sparsity)
    notes: tuple[str, ...] = ()
    if request.rearrange:
        if inputs is None:
            raise TraceError("rearranging needs example inputs", hint="ap.sparsify(model, x, ...)")
        notes = rearranged(sparse, inputs, found.weights, amount, score)
    matrices = (
        (w.name, Matrix(values_of(w), w.format, tuple(w.parameter.shape))) for w in found.weights
    )
    levels = open_levels(matrices, score, amount, request.distribution)
    errors: dict[str, float | None] = {}
    masks: dict[str, Tensor] = {}
    with evaluating(sparse):
        for weight in each(found.weights, "making weights sparse"):
            moments = None
            if batches is not None and correctable(weight):
                moments = second_moments(sparse, weight, batches)
            gram = None if moments is None else moments.numpy(force=True)
            mask, values, errors[weight.name] = sparse_matrix(
                values_of(weight), gram, weight.format, levels.get(weight.name), score
            )
            masks[weight.name] = write(weight, mask, values)
    return SparseResult(
        sparse, masks, report_on(sparse, found, masks, errors, notes), inputs, dynamic_shapes, plan
    )


def check_weights(found: Found) -> None:
    """Refuse weights that cannot be compared.

    Raises:
        GraphError: naming the first parameter with a NaN or an infinity.
    """
    check_finite({weight.name: values_of(weight) for weight in found.weights})


def values_of(weight: Weight) -> Array:
    """The matrix of a weight; half precision becomes single."""
    values = weight.matrix(weight.parameter.detach())
    if values.dtype in (torch.bfloat16, torch.float16):
        values = values.float()
    return values.numpy(force=True)


def find_sparsity(weights: Sequence[Weight], sparsity: float | None) -> float:
    """The sparsity of the weights whose format leaves it open; errors as of `open_sparsity`."""
    return open_sparsity([(weight.format, weight.shape) for weight in weights], sparsity)


@torch.no_grad()
def write(weight: Weight, mask: Mask, values: Array) -> Tensor:
    """Put values into a parameter; its mask in its own shape."""
    parameter = weight.parameter
    parameter.copy_(weight.tensor(torch.from_numpy(values)))
    return weight.tensor(torch.from_numpy(mask)).to(parameter.device)


def report_on(
    model: nn.Module,
    found: Found,
    masks: Mapping[str, Tensor],
    errors: Mapping[str, float | None],
    notes: tuple[str, ...] = (),
) -> SparsityReport:
    """What became of the weights of a network."""
    rows = tuple(
        SparseRow(
            weight.name,
            weight.shape,
            str(weight.format),
            1 - int(masks[weight.name].sum()) / weight.parameter.numel(),
            errors.get(weight.name),
        )
        for weight in found.weights
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return SparsityReport(rows, parameters, found.reasons, notes)
