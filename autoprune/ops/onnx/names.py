"""ONNX operators that are an ATen operator under another name."""

from __future__ import annotations

from dataclasses import replace

from autoprune.ops.elementwise import elementwise_axes
from autoprune.ops.rule import Operator, joined_state, known, of_each, register

SAME = {
    "aten.relu": "Relu LeakyRelu Abs Neg",
    "aten.gelu": (
        "Gelu Mish HardSwish Elu Selu Celu Swish ThresholdedRelu Shrink Sin Tan Asin Sinh Asinh "
        "Atanh"
    ),
    "aten.tanh": "Tanh Softsign Atan Erf Floor Ceil Round",
    "aten.sign": "Sign",
    "aten.sqrt": "Sqrt",
    "aten.sigmoid": "Sigmoid HardSigmoid IsNaN IsInf",
    "aten.exp": "Exp Cos Cosh Acos Softplus Not BitwiseNot",
    "aten.reciprocal": "Reciprocal",
    "aten.log": "Log Acosh",
    "aten.alias": "Identity",
    "aten.dropout": "Dropout",
    "aten.bernoulli": "Bernoulli",
    "aten.clamp": "Clip",
    "aten.pow": "Pow",
    "aten.mul": "Mul",
    "aten.bitwise_and": "And BitwiseAnd",
    "aten.add": "Add Sub",
    "aten.bitwise_or": "Or Xor BitwiseOr BitwiseXor",
    "aten.div": "Div",
    "aten.remainder": "Mod",
    "aten.eq": "Equal Less LessOrEqual Greater GreaterOrEqual",
    "aten.logaddexp": "BitShift",
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
    "aten.arange": "Range Shape HannWindow HammingWindow BlackmanWindow",
    "aten.randperm": "RandomNormal RandomUniform",
    "torchvision.roi_align": "RoiAlign",
    "torchvision.deform_conv2d": "DeformConv",
}
"""ONNX operators with the rule of an ATen one; the rule reads nothing else than both have."""

CONTRIBUTED = {
    "aten.gelu": "Gelu QuickGelu ScaledSiLU QLinearLeakyRelu",
    "aten.exp": "QLinearSigmoid",
    "aten.bitwise_or": "BiasGelu FastGelu QLinearAdd",
    "aten.bitwise_and": "QLinearMul",
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


def _register() -> None:
    for prefix, table in (("onnx", SAME), ("microsoft", CONTRIBUTED), ("ml", CLASSICAL)):
        for aten, names in table.items():
            register(" ".join(f"{prefix}.{name}" for name in names.split()), known(aten))


_register()
register("microsoft.QLinearConcat", replace(known("aten.cat"), moves=False))
register(
    "onnx.Sum onnx.Mean onnx.Max onnx.Min",
    Operator(axes=elementwise_axes, zero=joined_state, homogeneous=of_each),
)
