"""Make an ONNX model sparse at once; torch is not needed."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
import onnx

from autoprune.errors import AutopruneError
from autoprune.frameworks.onnx.feeds import calibration_feeds
from autoprune.frameworks.onnx.network import OnnxFiles, OnnxNetwork
from autoprune.frameworks.onnx.trace import trace
from autoprune.frameworks.onnx.walk import messages
from autoprune.passes.pruning.choose import check_finite
from autoprune.passes.pruning.given import Given
from autoprune.passes.sparsify.gram import Calibration
from autoprune.passes.sparsify.layout import Array, Mask
from autoprune.passes.sparsify.one_shot import Request, make_sparse, open_sparsity
from autoprune.passes.sparsify.onnx_weights import find_weights
from autoprune.passes.sparsify.result import SparseResult
from autoprune.passes.sparsify.selection import SparseWeight
from autoprune.report.sparsity import SparsityReport


def sparsify_onnx(
    given: Given, calibration: Iterable[Any] | None, request: Request
) -> SparseResult[onnx.ModelProto]:
    """`autoprune.sparsify` of an ONNX model; arguments and errors as there."""
    if request.rearrange:
        raise AutopruneError(
            "channels of an ONNX model are not rearranged",
            hint="bring it into torch by ap.to_torch, or leave rearrange out",
        )
    network = OnnxNetwork(trace(given.model, given.inputs))
    feeds = None if calibration is None else calibration_feeds(network.model, calibration)
    weights, reasons = find_weights(network, request.format, request.ignore)

    def read(weight: SparseWeight) -> Array:
        tensor = network.parameter(weight.name)
        values = tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
        return np.ascontiguousarray(weight.matrix(values))

    check_finite({weight.name: read(weight) for weight in weights})
    amount = open_sparsity(weights, request.sparsity)
    written: dict[str, Array] = {}
    masks: dict[str, Mask] = {}

    def write(weight: SparseWeight, values: Array, mask: Mask) -> Array:
        dtype = network.parameter(weight.name).dtype
        written[weight.name] = np.ascontiguousarray(weight.tensor(values), dtype)
        masks[weight.name] = np.ascontiguousarray(weight.tensor(mask))
        return written[weight.name]

    runs = None if feeds is None else Calibration([(network, feeds)])
    rows = make_sparse(weights, read, write, request, amount, runs)
    sparse = network.with_parameters(written).model
    report = SparsityReport(
        rows, sum(prod(t.dims) for t in messages(onnx.TensorProto, sparse)), reasons
    )
    external = network.files.external or (given.result is not None and given.result.external)
    origin = "" if given.result is None else given.result.origin
    return SparseResult(sparse, masks, report, OnnxFiles(network.inputs, external), None, origin)
