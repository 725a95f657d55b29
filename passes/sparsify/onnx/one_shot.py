"""Make an ONNX model sparse at once."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import onnx

from autoprune.errors import AutopruneError
from autoprune.frameworks.onnx.feeds import calibration_feeds
from autoprune.frameworks.onnx.file import read_onnx
from autoprune.frameworks.onnx.walk import messages
from autoprune.passes.pruning.choose import check_finite
from autoprune.passes.pruning.given import Given
from autoprune.passes.sparsify.layout import Mask
from autoprune.passes.sparsify.onnx.moments import correctable, second_moments
from autoprune.passes.sparsify.onnx.result import SparseOnnx
from autoprune.passes.sparsify.onnx.weights import find_weights
from autoprune.passes.sparsify.single import (
    WEIGHT_CRITERIA,
    Matrix,
    Request,
    open_levels,
    open_sparsity,
    sparse_matrix,
)
from autoprune.report.progress import each
from autoprune.report.sparsity import SparseRow, SparsityReport


def sparsify_onnx(given: Given, calibration: Iterable[Any] | None, request: Request) -> SparseOnnx:
    """`autoprune.sparsify` of an ONNX model; arguments and errors as there."""
    if request.rearrange:
        raise AutopruneError(
            "channels of an ONNX model are not rearranged",
            hint="bring it into torch by ap.to_torch, or leave rearrange out",
        )
    origin, external = "", False
    if given.result is not None:
        origin, external = given.result.origin, given.result.external
    # A copy, or read from a file: it may be written to.
    file = read_onnx(given.model)
    sparse = file.model
    feeds = None if calibration is None else calibration_feeds(sparse, calibration)
    score = WEIGHT_CRITERIA.resolve(request.criterion)
    weights, reasons = find_weights(sparse, request.format, request.ignore)
    check_finite({weight.name: weight.matrix() for weight in weights})
    sizes = [(w.format, (w.dims[0], prod(w.dims[1:]))) for w in weights]
    amount = open_sparsity(sizes, request.sparsity)
    matrices = ((w.name, Matrix(w.matrix(), w.format, w.dims)) for w in weights)
    levels = open_levels(matrices, score, amount, request.distribution)
    masks: dict[str, Mask] = {}
    rows: list[SparseRow] = []
    pairs = list(zip(weights, sizes, strict=True))
    for weight, (format, shape) in each(pairs, "making weights sparse"):
        gram = None
        if feeds is not None and correctable(weight):
            gram = second_moments(sparse, weight, feeds)
        keep = levels.get(weight.name)
        mask, values, error = sparse_matrix(weight.matrix(), gram, format, keep, score)
        weight.write(values)
        masks[weight.name] = weight.shaped(mask)
        zero = 1 - int(mask.sum()) / mask.size
        rows.append(SparseRow(weight.name, shape, str(format), zero, error))
    parameters = sum(prod(t.dims) for t in messages(onnx.TensorProto, sparse))
    report = SparsityReport(tuple(rows), parameters, reasons)
    return SparseOnnx(sparse, masks, report, given.inputs, external or file.external, origin)
