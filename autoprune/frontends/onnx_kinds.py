"""Which tensors of an ONNX model are trained, which are state, and which are constants."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from autoprune.frontends.onnx_numbers import Seen

FLOATS = ("float64", "float32", "float16", "bfloat16")

Kind = Literal["parameter", "buffer", "constant"]

_STATE = {
    "BatchNormalization": (3, 4), "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7), "QLinearMatMul": (1, 2, 4, 5, 6, 7),
}  # fmt: skip
"""Inputs that are no weights: running statistics, scales and zero points."""


def tensor_kinds(
    graph: onnx.GraphProto,
    owners: Collection[str],
    seen: Mapping[str, Seen],
    tensors: Mapping[str, NDArray[Any]],
) -> dict[str, Kind]:
    """Which tensors of the model are trained."""
    kinds: dict[str, Kind] = {}
    weighed, state, quantized = set[str](), set[str](), set[str]()
    for node in graph.node:
        for i, name in enumerate(node.input):
            if i in _STATE.get(node.op_type, ()):
                state.add(name)
            elif node.op_type in _WEIGHTED and i:
                weighed.add(name)
            if node.op_type == "DequantizeLinear" and i == 0:
                quantized.add(name)
    for name in owners:
        if name in state:
            kinds[name] = "buffer"
        elif name in quantized:
            kinds[name] = "parameter"
        elif seen[name].dtype not in FLOATS or (seen[name].shape == () and name not in weighed):
            kinds[name] = "constant"
        elif name in weighed or name not in tensors or not np.isinf(tensors[name]).any():
            kinds[name] = "parameter"
        else:
            kinds[name] = "constant"  # a mask
    return kinds


_WEIGHTED = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization",
    "InstanceNormalization", "GroupNormalization", "RMSNormalization", "LSTM", "GRU", "RNN",
}  # fmt: skip
"""Operators whose inputs after the first are weights; an infinity there is a mistake."""
