"""ONNX operators: names for the families' rules, and rules where the meaning differs.

Importing this package registers all of them. Arguments have the families' names; where they stand
in an ONNX node is the frontend's business.
"""

from autoprune.ops.onnx import (
    indexing,
    linear,
    names,
    normalization,
    pinned,
    quantization,
    recurrent,
    resampling,
    shape,
)

__all__ = [
    "indexing",
    "linear",
    "names",
    "normalization",
    "pinned",
    "quantization",
    "recurrent",
    "resampling",
    "shape",
]
