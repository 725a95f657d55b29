"""Which tensors of an ONNX model are trained, which are state, and which are constants."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from autoprune.frameworks.onnx.constants import Seen

FLOATS = ("float64", "float32", "float16", "bfloat16")

Role = Literal["parameter", "buffer", "constant"]

_STATE = {
    "BatchNormalization": (3, 4), "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7), "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "MatMulInteger": (2, 3), "ConvInteger": (2, 3), "QGemm": (1, 2, 4, 5, 7, 8),
    "MatMulIntegerToFloat": (2, 3, 4, 5), "DynamicQuantizeMatMul": (2, 3),
    "QLinearAdd": (1, 2, 4, 5, 6, 7), "QLinearMul": (1, 2, 4, 5, 6, 7),
    "QLinearConcat": (0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19, 21, 22, 24, 25),
    "MatMulNBits": (3, 4),
}  # fmt: skip
"""Inputs that are no weights: running statistics, scales and zero points."""


@dataclass(frozen=True)
class Quantized:
    """Where an operator reads integers that stand for fractions.

    Attributes:
        weight: which input they are.
        scale: which input their scale is, if it has one.
        zero_point: which input their zero point is, if it has one.
        dim: along which dimension these differ; None if an attribute says it.
    """

    weight: int
    scale: int | None = None
    zero_point: int | None = None
    dim: int | None = None


QUANTIZED = {
    "DequantizeLinear": (Quantized(0, 1, 2),),
    "QLinearConv": (Quantized(3, 4, 5, dim=0), Quantized(8)),
    "QLinearMatMul": (Quantized(0, 1, 2, dim=0), Quantized(3, 4, 5, dim=-1)),
    "ConvInteger": (Quantized(1, None, 3, dim=0),),
    "MatMulInteger": (Quantized(0, None, 2, dim=0), Quantized(1, None, 3, dim=-1)),
    "MatMulIntegerToFloat": (Quantized(1, 3, 5, dim=-1),),
    "DynamicQuantizeMatMul": (Quantized(1, 2, 3, dim=-1),),
    "QGemm": (Quantized(3, 4, 5, dim=0), Quantized(6)),
}
"""By operator, the integers that count as weights."""


def parameter_kinds(
    graph: onnx.GraphProto,
    owners: Collection[str],
    seen: Mapping[str, Seen],
    tensors: Mapping[str, NDArray[Any]],
) -> dict[str, Role]:
    """Which tensors of the model are trained."""
    kinds: dict[str, Role] = {}
    weighed, state, quantized = set[str](), set[str](), set[str]()
    for node in graph.node:
        for i, name in enumerate(node.input):
            if i in _STATE.get(node.op_type, ()):
                state.add(name)
            elif node.op_type in _WEIGHTED and i:
                weighed.add(name)
            if any(i == q.weight for q in QUANTIZED.get(node.op_type, ())):
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
