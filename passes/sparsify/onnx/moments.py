"""Second moments of the inputs of layers of an ONNX model, gathered on calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from onnx import helper

from autoprune.frameworks.onnx.run import reader
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.passes.sparsify.layout import Array
from autoprune.passes.sparsify.onnx.weights import OnnxWeight


def correctable(weight: OnnxWeight) -> bool:
    """Whether every output reads all inputs."""
    found = {a.name: a.i for a in weight.nodes[0].attribute}
    return weight.kind == "linear" or found.get("group", 1) == 1


def second_moments(model: onnx.ModelProto, weight: OnnxWeight, feeds: Sequence[Feed]) -> Array:
    """`X^T X` of the inputs X [samples, inputs] that a weight is multiplied by.

    Args:
        model: the model as it is now.
        weight: one of its weights.
        feeds: calibration data.

    Returns:
        Of dtype float64, shape [inputs, inputs].
    """
    size = prod(weight.dims[1:])
    gram = np.zeros((size, size))
    read = reader(model, [node.input[0] for node in weight.nodes])
    for feed in feeds:
        values = read(feed)
        for node in weight.nodes:
            rows = unfolded(values[node.input[0]], node, weight.dims[2:]).astype(np.float64)
            gram += rows.T @ rows
    return gram


def unfolded(x: Array, node: onnx.NodeProto, kernel: Sequence[int]) -> Array:
    """The inputs of a node as a matrix, whose product with the weight's are the outputs.

    Args:
        x: of a linear layer [..., inputs], of a convolution [batch, channels, *size].
        node: the operator.
        kernel: of a convolution.

    Returns:
        Shape [samples, kernel * inputs].
    """
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type != "Conv":
        x = x.T if given.get("transA") else x
        return x.reshape(-1, x.shape[-1])
    dims = len(kernel)
    strides = given.get("strides", [1] * dims)
    dilations = given.get("dilations", [1] * dims)
    spans = [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    widths = _padding(given, x.shape[2:], spans, strides)
    x = np.pad(x, [(0, 0), (0, 0), *widths])
    # Windows are last: [batch, channels, *places, *windows].
    axes = tuple(range(2, 2 + dims))
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, axis=axes)
    every = (*(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))
    windows = windows[(slice(None), slice(None), *every)]
    order = (0, *axes, *range(2 + dims, 2 + 2 * dims), 1)
    return windows.transpose(order).reshape(-1, prod(kernel) * x.shape[1])


def _padding(
    given: dict[str, object], sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Zeros before and after, along each dimension."""
    dims = len(spans)
    automatic = given.get("auto_pad", b"NOTSET")
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        found = []
        for size, span, stride in zip(sizes, spans, strides, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + span - size)
            less, more = total // 2, total - total // 2
            found.append((less, more) if automatic == b"SAME_UPPER" else (more, less))
        return found
    if automatic == b"VALID":
        return [(0, 0)] * dims
    pads = given.get("pads", [0] * 2 * dims)
    assert isinstance(pads, Sequence)
    return [(pads[i], pads[i + dims]) for i in range(dims)]
