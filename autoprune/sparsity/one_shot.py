"""Make a trained network sparse at once: `sparsify`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.backends.equality import evaluating
from autoprune.errors import BudgetError, TraceError
from autoprune.frontends.torch import as_inputs, copy_of
from autoprune.passes.sparsify.distribution import Distribution, Layer, find_levels
from autoprune.passes.sparsify.layout import Array, Mask, Scores
from autoprune.passes.sparsify.masks import check_sparsity, l1, l2
from autoprune.passes.sparsify.reconstruction import reconstruct
from autoprune.pipeline import check_finite
from autoprune.sparsity.calibration import batches_of, correctable, second_moments
from autoprune.sparsity.rearrangement import rearranged
from autoprune.sparsity.result import SparseResult, SparseRow, SparsityReport
from autoprune.sparsity.weights import FormatSpec, Found, Weight, find_weights
from autoprune.torch_result import TorchResult

SPARSITY = 0.8
"""Share of the weights that is removed where none is asked for: from about there on, sparse
kernels are clearly faster than dense ones."""

Criterion = Callable[[Array], Scores]
"""From a matrix [outputs, inputs] to the importance of each weight, 0 or more."""

CRITERIA: dict[str, Criterion] = {"l1": l1, "l2": l2}


def sparsify(
    model: nn.Module | TorchResult,
    example_inputs: Any = None,
    *,
    format: FormatSpec = "auto",
    sparsity: float | None = None,
    calibration: Iterable[Any] | None = None,
    ignore: str | Sequence[str] = (),
    distribution: str | Distribution = "uniform",
    criterion: str | Criterion = "l2",
    rearrange: bool = False,
    dynamic_shapes: Any = None,
) -> SparseResult:
    """A copy of a network in which weights are zero, in a pattern that sparse kernels use.

    With calibration data, the weights of each layer that stay make up for those that go
    (Optimal Brain Surgeon, see `autoprune.passes.sparsify.reconstruction`), layer after layer, so
    that each also corrects what those before it changed.

    Args:
        model: a trained network, or the result of `prune` or of a `Pruner`; it is not changed.
        example_inputs: as for `prune`, to save as ONNX and to rearrange; those of a result are
            known.
        format: the format of all linear layers and convolutions (of two dimensions, not grouped,
            of 4 channels or more), such as `"block 32x1"`, `"2:4"` or `"fan-in"`; `"auto"` for the
            blocks of `autoprune.compile`'s kernels where they fit, `"auto int8"` for those of its
            8-bit kernels; or a dict to such from names or patterns of layers, also of other
            convolutions and shared weights, and of parameters that belong to no layer if it ends
            with their own name (`"encoder.*.in_proj_weight"`).
        sparsity: share of the weights to remove of those whose format does not say that itself;
            None for 0.8.
        calibration: inputs to run the network on, each as `example_inputs`; some hundred samples
            of training data. Takes one pass over them for each layer.
        ignore: names or patterns of modules or parameters to leave dense.
        distribution: over the layers: `"uniform"`, `"erk"` (less of small layers) or `"global"`
            (the least important, wherever they are), or a function.
        criterion: importance of weights, `"l1"`, `"l2"` or a function of a matrix. With
            calibration it only counts for the distribution.
        rearrange: first reorder channels, so that important weights share blocks; the network
            computes the same.
        dynamic_shapes: as in `Options`, for files; that of a result is known.

    Raises:
        FormatError: if a format is unknown or fits no layer, or calibration data is not finite.
        BudgetError: if the sparsity is out of range, or no format leaves it open.
        GraphError: if a weight is not finite.
        TraceError: if the model is no module, cannot be copied, or is to be rearranged and cannot
            be exported.
        AutopruneError: if a name matches nothing, or the calibration data is empty.

    Example:
        >>> result = sparsify(model, x, format="block 32x1", sparsity=0.8, calibration=[x])
        >>> print(result.report)
        >>> result.save("sparse.onnx")
    """
    plan = None
    if isinstance(model, TorchResult):
        plan, example_inputs = model.plan, model._inputs
        dynamic_shapes, model = model._dynamic_shapes, model.model
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"a torch.nn.Module or a result of ap.prune is needed, got {type(model).__name__}",
            hint="of an ONNX model, make a module with ap.to_torch",
        )
    inputs = None if example_inputs is None else as_inputs(example_inputs)
    batches = None if calibration is None else batches_of(calibration)
    score = _criterion(criterion)
    sparse = copy_of(model)
    found = find_weights(sparse, format, ignore)
    check_weights(found)
    amount = open_sparsity(found.weights, sparsity)
    notes: tuple[str, ...] = ()
    if rearrange:
        if inputs is None:
            raise TraceError("rearranging needs example inputs", hint="ap.sparsify(model, x, ...)")
        notes = rearranged(sparse, inputs, found.weights, amount, score)
    levels = levels_of(found.weights, score, amount, distribution)
    errors: dict[str, float | None] = {}
    masks: dict[str, Tensor] = {}
    with evaluating(sparse):
        for weight in found.weights:
            gram = None
            if batches is not None and correctable(weight):
                gram = second_moments(sparse, weight, batches)
            mask, values, errors[weight.name] = _sparse(weight, gram, levels, score)
            masks[weight.name] = write(weight, mask, values)
    return SparseResult(
        sparse, masks, report_on(sparse, found, masks, errors, notes), inputs, dynamic_shapes, plan
    )


def _criterion(criterion: str | Criterion) -> Criterion:
    if not isinstance(criterion, str):
        return criterion
    if criterion not in CRITERIA:
        raise BudgetError(
            f"there is no criterion {criterion!r} of single weights",
            hint=f"use one of {', '.join(CRITERIA)}, or a function of a matrix",
        )
    return CRITERIA[criterion]


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


def open_sparsity(weights: Sequence[Weight], sparsity: float | None) -> float:
    """The sparsity of the weights whose format leaves it open.

    Raises:
        BudgetError: if it is no fraction, or was given although no format leaves it open.
    """
    if sparsity is None:
        return SPARSITY
    check_sparsity(sparsity)
    if not any(leaves_open(weight) for weight in weights):
        raise BudgetError(
            f"the format {weights[0].format} says itself how much is kept, not "
            f"sparsity={sparsity:g}",
            hint="leave the sparsity out, or take another format",
        )
    return float(sparsity)


def leaves_open(weight: Weight) -> bool:
    """Whether the format of a weight does not say how much is kept."""
    return weight.format.levels(weight.shape) is not None


def levels_of(
    weights: Sequence[Weight],
    score: Criterion,
    sparsity: float,
    distribution: str | Distribution,
) -> dict[str, int]:
    """Levels to keep of the weights whose format leaves that open, by name."""
    layers = {
        weight.name: Layer(
            np.asarray(score(values_of(weight)), np.float64),
            weight.format,
            tuple(weight.parameter.shape),
        )
        for weight in weights
        if leaves_open(weight)
    }
    return find_levels(layers, sparsity, distribution)


def _sparse(
    weight: Weight, gram: Tensor | None, levels: Mapping[str, int], score: Criterion
) -> tuple[Mask, Array, float | None]:
    """The mask of a weight, what stays of it, and the error of the layer's outputs."""
    values, keep = values_of(weight), levels.get(weight.name)
    if gram is None:
        mask = weight.format.choose(np.asarray(score(values), np.float64), keep)
        return mask, np.where(mask, values, values.dtype.type(0)), None
    every = weight.format.levels(weight.shape)
    share = None if keep is None or every is None else 1 - keep / every
    found = reconstruct(values, gram.numpy(force=True), weight.format, share)
    return found.mask, found.weight, found.error


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
