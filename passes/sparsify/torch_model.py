"""Make a trained module sparse at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.errors import AutopruneError, TraceError
from autoprune.frameworks.torch.arrays import array_of, single
from autoprune.frameworks.torch.carried import carried_plan
from autoprune.frameworks.torch.files import TorchFiles
from autoprune.frameworks.torch.network import trace_network
from autoprune.frameworks.torch.objects import Inputs, plain
from autoprune.frameworks.torch.trace import as_inputs, copy_of
from autoprune.passes.pruning.choose import check_finite
from autoprune.passes.pruning.given import Given
from autoprune.passes.sparsify.gram import Calibration, does_not_run
from autoprune.passes.sparsify.layout import Array, Mask
from autoprune.passes.sparsify.network_rearrangement import rearranged
from autoprune.passes.sparsify.one_shot import Request, make_sparse, open_sparsity
from autoprune.passes.sparsify.result import SparseResult
from autoprune.passes.sparsify.weights import Weight, find_weights
from autoprune.report.sparsity import SparsityReport


def sparsify_module(
    given: Given, calibration: Iterable[Any] | None, request: Request
) -> SparseResult[nn.Module]:
    """`autoprune.sparsify` of a module; arguments and errors as there."""
    plan = carried_plan(given.model)
    inputs = None if given.inputs is None else as_inputs(given.inputs)
    batches = None if calibration is None else batches_of(calibration)
    sparse = copy_of(given.model)
    weights, reasons = find_weights(sparse, request.format, request.ignore)
    check_weights(weights)
    amount = open_sparsity(weights, request.sparsity)
    notes: tuple[str, ...] = ()
    if request.rearrange:
        if inputs is None:
            raise TraceError("rearranging needs example inputs", hint="ap.sparsify(model, x, ...)")
        notes = rearranged(sparse, inputs, weights, amount, request.scores)
    masks: dict[str, Tensor] = {}

    @torch.no_grad()
    def write(weight: Weight, values: Array, mask: Mask) -> Array:
        parameter = weight.parameter
        parameter.copy_(weight.tensor(torch.from_numpy(values)))
        masks[weight.name] = weight.tensor(torch.from_numpy(mask)).to(parameter.device).contiguous()
        return array_of(parameter)

    runs = None if batches is None else calibrated(sparse, batches)
    rows = make_sparse(weights, values_of, write, request, amount, runs)
    report = SparsityReport(rows, parameters_of(sparse), reasons, notes)
    return SparseResult(sparse, masks, report, TorchFiles(inputs, given.dynamic_shapes), plan)


def batches_of(calibration: Iterable[Any]) -> tuple[Inputs, ...]:
    """Calibration data as arguments of forward passes.

    Args:
        calibration: what to run the network on, each as `example_inputs` of `prune`.

    Raises:
        AutopruneError: if it is a tensor or empty, or can be read only once and is used up.
    """
    if isinstance(calibration, Tensor):
        raise AutopruneError(
            "calibration is an iterable of inputs, not a tensor",
            hint="give [x] for one batch, or x.split(32) for several",
        )
    batches = tuple(as_inputs(batch) for batch in calibration)
    if not batches:
        raise AutopruneError("the calibration data is empty")
    return batches


def calibrated(model: nn.Module, batches: Sequence[Inputs]) -> Calibration:
    """A module on calibration data, traced once for each kind of inputs.

    Raises:
        AutopruneError: if it cannot be traced on them.
    """
    kinds: dict[object, list[Inputs]] = {}
    for batch in batches:
        kinds.setdefault(_kind_of(batch), []).append(batch)
    try:
        return Calibration([(trace_network(model, same[0]), same) for same in kinds.values()])
    except TraceError as error:
        raise does_not_run(error) from error


def _kind_of(inputs: Inputs) -> object:
    """What a graph may be specialized to: shapes, types and numbers among the inputs."""
    leaves, structure = pytree.tree_flatten(plain(inputs))
    kinds = (
        (tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else repr(leaf)
        for leaf in leaves
    )
    return str(structure), *kinds


def check_weights(weights: Sequence[Weight]) -> None:
    """Refuse weights that cannot be compared.

    Raises:
        GraphError: naming the first parameter with a NaN or an infinity.
    """
    check_finite({weight.name: values_of(weight) for weight in weights})


def values_of(weight: Weight) -> Array:
    """The matrix of a weight; half precision becomes single."""
    return single(weight.matrix(weight.parameter))


def parameters_of(model: nn.Module) -> int:
    """The number of trained numbers of a network."""
    return sum(parameter.numel() for parameter in model.parameters())
