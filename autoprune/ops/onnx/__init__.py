"""ONNX operators: names for the families' rules, and rules where the meaning differs.

Importing this package registers all of them. Arguments have the families' names; where they stand
in an ONNX node is the frontend's business.
"""

from autoprune.ops.onnx import (
    attention,
    fused_norms,
    indexing,
    integers,
    linear,
    names,
    normalization,
    pinned,
    quantization,
    recurrent,
    reduction,
    resampling,
    rotary,
    shape,
)

__all__ = [
    "attention",
    "fused_norms",
    "indexing",
    "integers",
    "linear",
    "names",
    "normalization",
    "pinned",
    "quantization",
    "recurrent",
    "reduction",
    "resampling",
    "rotary",
    "shape",
]
