"""ONNX operators that are an ATen operator under another name."""

from __future__ import annotations

from autoprune.ops import (
    attention,
    convolution,
    creation,
    detection,
    elementwise,
    indexing,
    joining,
    linear,
    native,
    normalization,
    order,
    pooling,
    reduction,
    repetition,
    shape,
)
from autoprune.ops.rule import Operator, State, Zeroing, find, joined, register

# The names below are registered by these modules.
FAMILIES = (
    attention, convolution, creation, detection, elementwise, indexing, joining, linear, native,
    normalization, order, pooling, reduction, repetition, shape,
)  # fmt: skip

SAME = {
    "aten.relu": (
        "Relu Gelu Mish Tanh HardSwish LeakyRelu Elu Selu Celu Swish ThresholdedRelu Shrink "
        "Softsign Abs Neg Sign Sqrt Sin Tan Asin Atan Sinh Asinh Atanh Erf Floor Ceil Round"
    ),
    "aten.sigmoid": "Sigmoid HardSigmoid Exp Cos Cosh Acos Softplus Not BitwiseNot IsNaN IsInf",
    "aten.reciprocal": "Reciprocal Log Acosh",
    "aten.alias": "Identity",
    "aten.dropout": "Dropout",
    "aten.bernoulli": "Bernoulli",
    "aten.clamp": "Clip",
    "aten.pow": "Pow",
    "aten.mul": "Mul And BitwiseAnd",
    "aten.add": "Add Sub Or Xor BitwiseOr BitwiseXor",
    "aten.div": "Div Mod",
    "aten.eq": "Equal Less LessOrEqual Greater GreaterOrEqual BitShift",
    "aten.where": "Where",
    "aten._prelu_kernel": "PRelu",
    "aten.convolution": "Conv ConvTranspose",
    "aten.matmul": "MatMul",
    "aten.einsum": "Einsum",
    "aten.batch_norm": "BatchNormalization",
    "aten.group_norm": "GroupNormalization",
    "aten.native_layer_norm": "LayerNormalization",
    "aten.rms_norm": "RMSNormalization SimplifiedLayerNormalization",
    "aten.adaptive_avg_pool2d": (
        "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool"
    ),
    "aten.grid_sampler": "GridSample",
    "aten.reshape": "Reshape",
    "aten.flatten": "Flatten Unsqueeze",
    "aten.permute": "Transpose",
    "aten.repeat": "Tile",
    "aten.cat": "Concat",
    "aten.gather": "GatherElements",
    "aten.argmax": "ArgMax ArgMin",
    "aten.cumsum": "CumSum",
    "aten.topk": "TopK",
    "aten.tril": "Trilu",
    "aten.rand_like": "RandomNormalLike RandomUniformLike",
    "aten.arange": (
        "Range Shape RandomNormal RandomUniform HannWindow HammingWindow BlackmanWindow"
    ),
    "torchvision.roi_align": "RoiAlign",
    "torchvision.deform_conv2d": "DeformConv",
}
"""ONNX operators with the rule of an ATen one; the rule reads nothing else than both have."""

CONTRIBUTED = {
    "aten.relu": "Gelu QuickGelu ScaledSiLU QLinearLeakyRelu",
    "aten.sigmoid": "QLinearSigmoid",
    "aten.add": "BiasGelu FastGelu QLinearAdd",
    "aten.mul": "QLinearMul",
    "aten.cat": "QLinearConcat",
    "aten.adaptive_avg_pool2d": "QLinearGlobalAveragePool QLinearAveragePool",
    "aten.rms_norm": "SimplifiedLayerNormalization",
    "aten.tril": "Trilu",
    "aten.grid_sampler": "GridSample",
    "aten.flatten": "ExpandDims",
    "aten.arange": "Range",
}
"""The same for operators that ONNX Runtime adds (`com.microsoft`)."""

CLASSICAL = {"aten.sigmoid": "Binarizer"}
"""The same for operators of classical models (`ai.onnx.ml`)."""


def _weakest(call: Zeroing) -> State:
    return joined(call, call.tensors)


def _register() -> None:
    for prefix, table in (("onnx", SAME), ("microsoft", CONTRIBUTED), ("ml", CLASSICAL)):
        for aten, names in table.items():
            operator = find(aten)
            assert operator is not None, aten
            register(" ".join(f"{prefix}.{name}" for name in names.split()), operator)


_register()
register(
    "onnx.Sum onnx.Mean onnx.Max onnx.Min",
    Operator(axes=elementwise.elementwise_axes, zero=_weakest),
)
