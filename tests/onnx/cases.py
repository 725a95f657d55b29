"""A case for every ONNX operator with a rule: a tiny network, and the groups in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from tests.onnx import fused_cases, integer_cases
from tests.onnx.build import LATEST, Builder
from tests.onnx.parts import C, Case, F, M, Op, Z, chain, image, tokens


def unary(op: str, guarantee: str, opset: int = 17, **attributes: Any) -> Case:
    return chain(op, lambda b, x: str(b.node(op, x, **attributes)), guarantee, opset=opset)


def _domain(op: str, b: Builder, x: str) -> str:
    """Values for which the operator is defined."""
    bounded = b.node("Mul", b.node("Tanh", x), b.scalar(0.5))
    return str(b.node(op, bounded))


UNARY = [
    *(unary(op, Z) for op in (
        "Relu", "Tanh", "HardSwish", "LeakyRelu", "Elu", "Selu", "Celu", "Shrink", "Softsign",
        "Abs", "Neg", "Sin", "Sinh", "Asinh", "Atan", "Erf", "Identity", "Sign", "Floor", "Ceil",
        "Round",
    )),
    unary("Gelu", Z, 20),
    unary("Mish", Z, 18),
    unary("ThresholdedRelu", Z, alpha=0.1),
    *(chain(op, lambda b, x, op=op: _domain(op, b, x), Z) for op in ("Asin", "Atanh", "Tan")),
    chain("Acos", lambda b, x: _domain("Acos", b, x), M),
    chain("Sqrt", lambda b, x: str(b.node("Sqrt", b.node("Abs", x))), Z),
    *(unary(op, M) for op in ("Sigmoid", "HardSigmoid", "Exp", "Cos", "Cosh", "Softplus")),
    chain("Cast", lambda b, x: str(b.node("Cast", b.node("Cast", x, to=11), to=1)), Z),
    chain("CastLike", lambda b, x: str(b.node("CastLike", x, b.scalar(0.0))), Z),
    chain(
        "IsNaN", lambda b, x: str(b.node("Cast", b.node("Not", b.node("IsNaN", x)), to=1)), M,
        covers="IsNaN Not",
    ),
    chain("IsInf", lambda b, x: str(b.node("Cast", b.node("IsInf", b.node("Exp", b.node(
        "Mul", x, b.scalar(300)))), to=1)), M),
    chain("Reciprocal", lambda b, x: str(b.node("Reciprocal", b.node("Exp", x))), M),
    chain("Log", lambda b, x: str(b.node("Log", b.node("Exp", x))), M),
    chain("Acosh", lambda b, x: str(b.node("Acosh", b.node("Exp", b.node("Abs", x)))), M),
    chain("Dropout", lambda b, x: str(b.node("Dropout", x)), Z),
    chain("Clip holds zero", lambda b, x: str(b.node("Clip", x, b.scalar(-1), b.scalar(1))), Z,
          covers="Clip"),
    chain("Clip above zero", lambda b, x: str(b.node("Clip", x, b.scalar(0.5), b.scalar(2))), M,
          covers="Clip"),
    chain("Clip by attributes", lambda b, x: str(b.node("Clip", x, min=0.5, max=2.0)), M,
          covers="Clip", opset=10),
    chain("Pow", lambda b, x: str(b.node("Pow", x, b.scalar(2))), Z),
    chain("Gelu of ONNX Runtime",
          lambda b, x: str(b.node("Gelu", x, domain="com.microsoft")), Z, covers="microsoft.Gelu"),
    chain("QuickGelu", lambda b, x: str(b.node("QuickGelu", x, domain="com.microsoft")), Z,
          covers="microsoft.QuickGelu"),
    chain("BiasGelu",
          lambda b, x: str(b.node("BiasGelu", x, b.weight("bias", 6), domain="com.microsoft")), Z,
          covers="microsoft.BiasGelu"),
]  # fmt: skip


def _with_itself(op: str) -> Op:
    return lambda b, x: str(b.node(op, x, b.node("Sin", x)))


def _compared(op: str) -> Op:
    def build(b: Builder, x: str) -> str:
        other = b.node("Relu", x) if "Equal" in op else b.node("Mul", x, b.scalar(0.5))
        return str(b.node("Cast", b.node(op, x, other), to=1))

    return build


def _wave(b: Builder, x: str) -> str:
    """Zero at zero, and of other signs than `x`."""
    return str(b.node("Sin", b.node("Mul", x, b.scalar(9))))


def _logical(op: str) -> Op:
    def build(b: Builder, x: str) -> str:
        positive = b.node("Cast", b.node("Relu", x), to=9)
        other = b.node("Cast", b.node("Relu", _wave(b, x)), to=9)
        return str(b.node("Cast", b.node(op, positive, other), to=1))

    return build


def _bitwise(op: str) -> Op:
    def build(b: Builder, x: str) -> str:
        number = b.node("Cast", b.node("Mul", x, b.scalar(9)), to=6)
        other = b.node("Cast", b.node("Mul", _wave(b, x), b.scalar(9)), to=6)
        operands = [number] if op == "BitwiseNot" else [number, other]
        return str(b.node("Cast", b.node(op, *operands), to=1))

    return build


def _shift(b: Builder, x: str) -> str:
    number = b.node("Cast", b.node("Abs", b.node("Mul", x, b.scalar(5))), to=13)
    return str(b.node("Cast", b.node("BitShift", number, number, direction="LEFT"), to=1))


PAIRS = [
    *(chain(op, _with_itself(op), Z) for op in ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean")),
    chain("Div", lambda b, x: str(b.node("Div", x, b.node("Exp", x))), Z),
    chain("Mod", lambda b, x: str(b.node("Mod", x, b.node("Exp", x), fmod=1)), Z),
    *(chain(op, _compared(op), M) for op in
      ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")),
    *(chain(op, _logical(op), Z) for op in ("And", "Or", "Xor")),
    *(chain(op, _bitwise(op), Z, opset=18) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    chain("BitwiseNot", _bitwise("BitwiseNot"), M, opset=18),
    chain("BitShift", _shift, M),
    chain("Where", lambda b, x: str(b.node("Where", b.node("Less", x, b.scalar(0.3)), x,
                                           b.node("Sin", x))), Z),
    image("PRelu", lambda b, x: str(b.node("PRelu", x, b.weight("slope", 6, 1, 1))), Z),
]  # fmt: skip


def _residual(b: Builder, x: str) -> str:
    depthwise = b.weight("depthwise", 6, 1, 3, 3)
    y = b.node("Relu", b.node("Conv", x, depthwise, group=6, pads=[1, 1, 1, 1]))
    return str(b.node("Add", x, b.convolution("b", y, 6, 6)))


def _transposed(b: Builder, x: str) -> str:
    return str(b.node("ConvTranspose", x, b.weight("up", 6, 4, 2, 2), strides=[2, 2]))


def _norm(b: Builder, x: str) -> str:
    statistics = b.weight("mean", 6), b.positive("variance", 6)
    return str(
        b.node("BatchNormalization", x, b.weight("gain", 6), b.weight("shift", 6), *statistics)
    )


def _affine(op: str, count: int, **attributes: Any) -> Op:
    def build(b: Builder, x: str) -> str:
        weights = [b.weight("gain", 6), b.weight("shift", 6)][:count]
        return str(b.node(op, x, *weights, **attributes))

    return build


def _group_norm(b: Builder, x: str) -> str:
    """As exporters write it: groups as channels of an instance norm."""
    rows = b.node("Reshape", x, b.ints(0, 3, -1))
    ones = b.tensor("ones", np.ones(3, np.float32)), b.tensor("zeros", np.zeros(3, np.float32))
    rows = b.node("InstanceNormalization", rows, *ones)
    y = b.node("Reshape", rows, b.ints(2, 6, 8, 8))
    return str(b.node("Mul", y, b.weight("gain", 6, 1, 1)))


def _deformed(b: Builder, x: str) -> str:
    offset = b.node("Conv", x, b.weight("offset", 2, 6, 1, 1))
    return str(b.node("DeformConv", x, b.weight("m", 5, 6, 1, 1), offset))


def _indices(b: Builder, x: str) -> str:
    value, index = b.node("MaxPool", x, kernel_shape=[2, 2], outputs=2)
    return str(b.node("Add", value, b.node("Cast", index, to=1)))


CONVOLUTION = [
    image("residual", _residual, Z, covers="Conv Add"),
    Case(
        "ConvTranspose",
        lambda b: b.head(_transposed(b, b.convolution("a", b.input("x", (2, 3, 8, 8)), 3, 6)), 4),
        {"a.weight:0[6]": Z, "up:1[4]": Z}, covers="ConvTranspose",
    ),
    Case(
        "grouped convolution",
        lambda b: b.head(b.node("Relu", b.node(
            "Conv", b.input("x", (2, 6, 8, 8)), b.weight("a.weight", 12, 2, 1, 1), group=3)), 12),
        {"a.weight:0/1[4]": Z}, covers="Conv",
    ),
    image("constant into a bias", lambda b, x: b.convolution(
        "b", str(b.node("Sigmoid", x)), 6, 5, 3), {"a.weight:0[6]": F, "b.weight:0[5]": Z}, out=5,
        covers="Conv"),
    *(image(f"constant beside padding {more}", lambda b, x, more=more: b.convolution(
        "b", str(b.node("Sigmoid", x)), 6, 5, 3, **more),
        {"a.weight:0[6]": M, "b.weight:0[5]": Z}, out=5, covers="Conv")
      for more in ({"pads": [1, 0, 0, 0]}, {"auto_pad": "SAME_UPPER"})),
    image("BatchNormalization", _norm, Z),
    image("InstanceNormalization", _affine("InstanceNormalization", 2), Z),
    image("GroupNormalization", _affine("GroupNormalization", 2, num_groups=6), Z, opset=21),
    Case(
        "group norm as exported",
        lambda b: b.head(_group_norm(b, b.convolution("a", b.input("x", (2, 3, 8, 8)), 3, 6)), 6),
        {"a.weight:0/0[3]": Z, "a.weight:0/1[2]": C}, covers="InstanceNormalization Reshape",
    ),
    image("MeanVarianceNormalization", lambda b, x: str(b.node(
        "MeanVarianceNormalization", x, axes=[0, 2, 3])), "approximate"),
    image("DeformConv", _deformed, {"a.weight:0[6]": Z, "m:0[5]": Z}, out=5, opset=22),
    image("RoiAlign", lambda b, x: str(b.node("RoiAlign", x, b.tensor("boxes", np.array(
        [[0, 0, 4, 4], [1, 2, 6, 7]], np.float32)), b.ints(0, 1), output_height=2,
        output_width=2)), Z, opset=16),
    image("CenterCropPad", lambda b, x: str(b.node(
        "CenterCropPad", x, b.ints(6, 10), axes=[2, 3])), Z, opset=18),
    image("LRN", lambda b, x: str(b.node("LRN", x, size=3)), None),
    *(image(op, lambda b, x, op=op: str(b.node(op, x, kernel_shape=[2, 2])), Z)
      for op in ("MaxPool", "AveragePool", "LpPool")),
    *(image(op, lambda b, x, op=op: str(b.node(op, x)), Z)
      for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")),
    image("MaxPool with indices", _indices, None, covers="onnx.pinned.MaxPool"),
    image("Resize by scales", lambda b, x: str(b.node(
        "Resize", x, "", b.tensor("scales", np.array([1, 1, 2, 2], np.float32)), mode="linear")),
        Z, covers="Resize"),
    image("Resize by sizes", lambda b, x: str(b.node(
        "Resize", x, "", "", b.ints(2, 6, 12, 12))), Z, covers="Resize"),
    image("Resize in opset 10", lambda b, x: str(b.node(
        "Resize", x, b.tensor("scales", np.array([1, 1, 2, 2], np.float32)))), Z, covers="Resize",
        opset=10),
    image("Upsample", lambda b, x: str(b.node(
        "Upsample", x, b.tensor("scales", np.array([1, 1, 2, 2], np.float32)))), Z, opset=9),
    image("GridSample", lambda b, x: str(b.node(
        "GridSample", x, b.tensor("grid", np.linspace(-1, 1, 64, dtype=np.float32).reshape(
            2, 4, 4, 2)))), Z),
    image("Pad pixels", lambda b, x: str(b.node("Pad", x, b.ints(0, 0, 1, 1, 0, 0, 1, 1))), Z,
          covers="Pad"),
    image("Pad by reflection", lambda b, x: str(b.node(
        "Pad", x, b.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")), Z, covers="Pad"),
    image("Pad channels", lambda b, x: str(b.node("Pad", x, b.ints(0, 1, 0, 0, 0, 3, 0, 0))),
          {"a.weight:0[6]": Z, "z.weight:1/1[3]": Z}, covers="Pad", out=10),
    image("Pad with attributes", lambda b, x: str(b.node(
        "Pad", x, pads=[0, 1, 0, 0, 0, 3, 0, 0], value=0.5)),
        {"a.weight:0[6]": M, "z.weight:1/1[3]": M}, covers="Pad", out=10, opset=10),
    Case(
        "DepthToSpace",
        lambda b: b.head(b.node("DepthToSpace", b.convolution(
            "a", b.input("x", (2, 3, 8, 8)), 3, 12), blocksize=2), 3),
        {"a.weight:0/2[3]": Z}, covers="DepthToSpace",
    ),
    Case(
        "DepthToSpace by columns",
        lambda b: b.head(b.node("DepthToSpace", b.convolution(
            "a", b.input("x", (2, 3, 8, 8)), 3, 12), blocksize=2, mode="CRD"), 3),
        {"a.weight:0/0[3]": Z}, covers="DepthToSpace",
    ),
    image("SpaceToDepth", lambda b, x: str(b.node("SpaceToDepth", x, blocksize=2)), Z, out=24),
    tokens("Col2Im", lambda b, x: str(b.node("Reshape", b.node("Transpose", b.node(
        "Col2Im", b.node("Transpose", x, perm=[0, 2, 1]), b.ints(3, 3), b.ints(2, 2)),
        perm=[0, 2, 3, 1]), b.ints(2, 9, 3))), {"a.weight:1/0[3]": Z}, width=12, out=3, opset=18),
]  # fmt: skip


def _heads(b: Builder, x: str) -> str:
    """Two heads of width three from one projection of queries, keys and values."""
    parts = b.node("Split", x, outputs=3, axis=2)
    split = [b.node("Transpose", b.node("Reshape", p, b.ints(2, 4, 2, 3)), perm=[0, 2, 1, 3])
             for p in parts]  # fmt: skip
    scores = b.node("MatMul", split[0], b.node("Transpose", split[1], perm=[0, 1, 3, 2]))
    weights = b.node("Softmax", b.node("Mul", scores, b.scalar(3**-0.5)))
    mixed = b.node("Transpose", b.node("MatMul", weights, split[2]), perm=[0, 2, 1, 3])
    return str(b.node("Reshape", mixed, b.ints(2, 4, 6)))


def _sized_heads(b: Builder, x: str) -> str:
    """The same shapes, computed from the sizes of tensors as older exporters do."""
    batch = b.node("Gather", b.node("Shape", x), b.scalar(0, "int64"))
    batch = b.node("Unsqueeze", batch, b.ints(0))
    width = b.node("Div", b.node("Slice", b.node("Shape", x), b.ints(2), b.ints(3)), b.ints(2))
    shape = b.node("Concat", batch, b.ints(4), b.ints(2), width, axis=0)
    split = b.node("Reshape", x, shape)
    root = b.node("Sqrt", b.node("Cast", width, to=1))
    scaled = b.node("Div", b.node("Relu", split), root)
    return str(b.node("Reshape", scaled, b.node("Concat", batch, b.ints(4, -1), axis=0)))


def _tied(b: Builder, x: str) -> str:
    """A slice of the channels goes another way."""
    left = b.node("Slice", x, b.ints(0), b.ints(2), b.ints(2))
    right = b.node("Slice", x, b.ints(2), b.ints(9), b.ints(2))
    return str(b.node("Concat", b.node("Relu", right), left, axis=-1))


def _reduced(op: str, **attributes: Any) -> Op:
    def build(b: Builder, x: str) -> str:
        row = b.node(op, x, axes=[-1], keepdims=1, **attributes)
        return str(b.node("Mul", x, row))

    return build


SHAPE = [
    tokens("attention", _heads, {"a.weight:1/0[2]": Z, "a.weight:1/1[3]": Z, "a.weight:1/2[3]": Z},
           width=18, out=6, covers="Split Reshape Transpose MatMul Softmax"),
    tokens("sizes of tensors", _sized_heads, {"a.weight:1/0[2]": Z, "a.weight:1/1[3]": Z},
           covers="Reshape Shape"),
    tokens("Slice and Concat", _tied, {"a.weight:1/0[2]": Z, "a.weight:1/1[4]": Z},
           covers="Slice Concat"),
    tokens("Slice with a step", lambda b, x: str(b.node(
        "Slice", x, b.ints(0), b.ints(6), b.ints(2), b.ints(2))), {}, out=3, covers="Slice"),
    tokens("Split unequally", lambda b, x: str(b.node("Concat", *reversed(b.node(
        "Split", x, b.ints(2, 4), axis=-1, outputs=2)), axis=-1)),
        {"a.weight:1/0[2]": Z, "a.weight:1/1[4]": Z}, covers="Split"),
    tokens("Split equally", lambda b, x: str(b.node("Mul", *b.node(
        "Split", x, axis=-1, num_outputs=2, outputs=2))), {"a.weight:1[3]": Z}, out=3,
        covers="Split", opset=18),
    tokens("Flatten", lambda b, x: str(b.node("Flatten", x, axis=2)), Z),
    tokens("Unsqueeze and Squeeze", lambda b, x: str(b.node(
        "Squeeze", b.node("Unsqueeze", x, b.ints(0, 2)), b.ints(0, 2))), Z,
        covers="Squeeze Unsqueeze"),
    tokens("Squeeze all", lambda b, x: str(b.node("Squeeze", b.node("Unsqueeze", x, b.ints(0)))),
           Z, covers="Squeeze"),
    tokens("Expand", lambda b, x: str(b.node("Mul", x, b.node(
        "Expand", b.weight("gain", 1, 6), b.ints(4, 6)))), Z),
    tokens("Expand to fewer", lambda b, x: str(b.node("Expand", x, b.ints(1, 6))), Z,
           covers="Expand"),
    tokens("Tile", lambda b, x: str(b.node("Tile", x, b.ints(1, 1, 2))),
           {"a.weight:1[6]": Z, "z.weight:0/0[2]": M}, out=12),
    tokens("ConstantOfShape", lambda b, x: str(b.node("Add", x, b.node(
        "ConstantOfShape", b.node("Shape", x)))), Z),
    tokens("filled weight", lambda b, x: str(b.node("Mul", x, b.node(
        "ConstantOfShape", b.ints(6), value=onnx.numpy_helper.from_array(
            np.array([0.3], np.float32))))), Z, covers="Mul"),
    tokens("Trilu", lambda b, x: str(b.node("MatMul", b.node("Trilu", b.weight("m", 4, 4)), x)), Z),
    *(tokens(op, lambda b, x, op=op: str(b.node("Mul", x, b.node("Unsqueeze", b.node(
        op, b.scalar(4, "int64")), b.ints(1)))), Z)
      for op in ("HannWindow", "HammingWindow", "BlackmanWindow")),
    tokens("Range", lambda b, x: str(b.node("Mul", x, b.node("Unsqueeze", b.node("Cast", b.node(
        "Range", b.scalar(0, "int64"), b.node("Gather", b.node("Shape", x), b.scalar(1, "int64")),
        b.scalar(1, "int64")), to=1), b.ints(1)))), Z, covers="Shape"),
]  # fmt: skip


REDUCTION = [
    tokens("ReduceMean", _reduced("ReduceMean"), C),
    tokens("ReduceSum", lambda b, x: str(b.node("Mul", x, b.node("ReduceSum", x, b.ints(-1)))), Z),
    tokens("ReduceSum over all", lambda b, x: str(b.node("Mul", x, b.node("ReduceSum", x))), Z,
           covers="ReduceSum"),
    *(tokens(op, _reduced(op), Z) for op in ("ReduceL1", "ReduceL2", "ReduceSumSquare")),
    *(tokens(op, _reduced(op), {}) for op in
      ("ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp")),
    tokens("ReduceLogSum", lambda b, x: str(b.node("Mul", x, b.node(
        "ReduceLogSum", b.node("Exp", x), axes=[-1]))), {"a.weight:1[6]": "approximate"}),
    tokens("ReduceLogSum over tokens", lambda b, x: str(b.node(
        "ReduceLogSum", b.node("Abs", x), axes=[1], keepdims=0)),
        {"a.weight:1[6]": "approximate"}, covers="ReduceLogSum"),
    *(tokens(f"CumProd {exclusive}", lambda b, x, e=exclusive: str(b.node(
        "CumProd", x, b.scalar(1, "int64"), exclusive=e)), M if exclusive else Z, covers="CumProd",
        opset=26) for exclusive in (0, 1)),
    tokens("ReduceMax over tokens", lambda b, x: str(b.node(
        "ReduceMax", x, axes=[1], keepdims=0)), Z, covers="ReduceMax"),
    tokens("ReduceMean by input", lambda b, x: str(b.node(
        "ReduceMean", x, b.ints(1), keepdims=0)), Z, covers="ReduceMean", opset=18),
    *(tokens(op, lambda b, x, op=op: str(b.node("Mul", x, b.node("Cast", b.node(
        op, x, axis=2, keepdims=1), to=1))), {}) for op in ("ArgMax", "ArgMin")),
    tokens("TopK", lambda b, x: str(b.node("TopK", x, b.ints(2), axis=1, outputs=2)[0]), M),
    tokens("CumSum", lambda b, x: str(b.node("CumSum", x, b.scalar(1, "int64"))), Z),
    *(tokens(op, lambda b, x, op=op: str(b.node(op, x, axis=1)), M)
      for op in ("Softmax", "LogSoftmax", "Hardmax")),
    tokens("Softmax over all that follows", lambda b, x: str(b.node("Softmax", x, axis=1)), {},
           covers="Softmax", opset=11),
    tokens("LayerNormalization", _affine("LayerNormalization", 2), C),
    tokens("RMSNormalization", _affine("RMSNormalization", 1), C, opset=LATEST),
    tokens("SimplifiedLayerNormalization", lambda b, x: str(b.node(
        "SimplifiedLayerNormalization", x, b.weight("gain", 6))), C),
    tokens("LpNormalization", lambda b, x: str(b.node("LpNormalization", x, axis=-1)), {}),
    tokens("Einsum", lambda b, x: str(b.node(
        "Einsum", x, b.weight("m", 6, 5), equation="btc,co->bto")),
        {"a.weight:1[6]": Z, "m:1[5]": Z}, out=5),
    chain("Gemm", lambda b, x: str(b.node("Gemm", b.weight("m", 6, 4), x, b.weight("c", 1, 5),
          transA=1, transB=1, alpha=0.5, beta=2.0)), Z, out=5),
]  # fmt: skip


def _words(b: Builder) -> str:
    ids = b.input("ids", (2, 4), onnx.TensorProto.INT64)
    x = b.node("Gather", b.weight("a.weight", 7, 6), ids)
    return b.linear("z", x, 6, 2)


def _scatter(b: Builder, x: str) -> str:
    positions = b.tensor("positions", np.array([[0, 1], [1, 3]], np.int64))
    updates = b.node("Relu", b.node("GatherND", x, positions))
    return str(b.node("ScatterND", x, positions, updates))


def _written(reduction: str) -> Op:
    """Rows of a constant go to two of the tokens."""

    def build(b: Builder, x: str) -> str:
        index = b.tensor("index", np.array([[0], [2]]))
        rows = b.node("Transpose", x, perm=[1, 0, 2])
        y = b.node("ScatterND", rows, index, b.weight("rows", 2, 2, 6), reduction=reduction)
        return str(b.node("Transpose", y, perm=[1, 0, 2]))

    return build


INDEXING = [
    Case("embedding", _words, {"a.weight:1[6]": Z}, covers="Gather"),
    tokens("one position", lambda b, x: str(b.node("Gather", x, b.scalar(1, "int64"), axis=1)), Z,
           covers="Gather"),
    tokens("one channel more", lambda b, x: str(b.node("Concat", x, b.node(
        "Gather", x, b.ints(2), axis=2), axis=2)),
        {"a.weight:1/0[2]": Z, "a.weight:1/1[3]": Z}, out=7, covers="Gather"),
    tokens("one channel", lambda b, x: str(b.node("Mul", x, b.node("Unsqueeze", b.node(
        "Gather", x, b.scalar(4, "int64"), axis=2), b.ints(2)))),
        {"a.weight:1[4]": Z}, covers="Gather"),
    tokens("a run of channels", lambda b, x: str(b.node("Gather", x, b.ints(2, 3, 4, 5), axis=2)),
           {"a.weight:1/0[2]": Z, "a.weight:1/1[4]": Z}, out=4, covers="Gather"),
    tokens("channels out of order", lambda b, x: str(b.node("Gather", x, b.ints(2, 0), axis=2)), {},
           out=2, covers="Gather"),
    tokens("GatherElements", lambda b, x: str(b.node("GatherElements", x, b.tensor(
        "index", np.zeros((2, 2, 6), np.int64)), axis=1)), Z),
    tokens("ScatterND", _scatter, Z, covers="ScatterND GatherND"),
    tokens("ScatterElements", lambda b, x: str(b.node("ScatterElements", x, b.tensor(
        "index", np.zeros((2, 1, 6), np.int64)), b.node("Slice", x, b.ints(0), b.ints(1),
        b.ints(1)), axis=1)), Z),
    *(tokens(f"ScatterND {reduction}", _written(reduction), groups, opset=18, covers="ScatterND")
      for reduction, groups in (
          ("none", Z), ("mul", Z), ("min", Z), ("max", Z),
          ("add", {"a.weight:1[6]": Z, "index:0[2]": Z}))),
    tokens("Scatter", lambda b, x: str(b.node("Scatter", x, b.tensor(
        "index", np.zeros((2, 1, 6), np.int64)), b.node("Slice", x, b.ints(0), b.ints(1),
        b.ints(1)), axis=1)), Z, opset=10),
    tokens("TensorScatter", lambda b, x: str(b.node("TensorScatter", x, b.node(
        "Slice", b.node("Relu", x), b.ints(0), b.ints(2), b.ints(1)), b.ints(1, 2))), Z, opset=24),
    tokens("ReverseSequence", lambda b, x: str(b.node(
        "ReverseSequence", x, b.ints(2, 3), time_axis=1, batch_axis=0)), Z),
    tokens("OneHot", lambda b, x: str(b.node("Mul", x, b.node("OneHot", b.node(
        "ArgMax", x, axis=1, keepdims=0), b.scalar(4, "int64"), b.tensor(
        "values", np.array([0, 1], np.float32)), axis=1))), Z),
]  # fmt: skip


_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _recurrent(kind: str, directions: int, initial: bool, **attributes: Any) -> Case:
    def build(b: Builder) -> str:
        x = b.linear("a", b.input("x", (5, 2, 3)), 3, 4)
        rows = _GATES[kind] * 6
        weights = [b.weight("w", directions, rows, 4), b.weight("r", directions, rows, 6)]
        weights.append(b.weight("b", directions, 2 * rows))
        if initial:
            h = b.node("Expand", b.weight("h", 1, 1, 6), b.ints(directions, 2, 6))
            weights += ["", h]
        direction = "bidirectional" if directions == 2 else "forward"
        outputs = 2 if kind != "LSTM" else 3
        y = b.node(
            kind, x, *weights, hidden_size=6, direction=direction, outputs=outputs, **attributes
        )[0]
        y = b.node("Reshape", b.node("Transpose", y, perm=[0, 2, 1, 3]), b.ints(0, 0, -1))
        return b.linear("z", y, 6 * directions, 2)

    zero = "activations" not in attributes
    gates = "h:2[6]" if initial else "w:1[6]" if kind == "RNN" else "w:1/1[6]"
    name = f"{kind} {directions} {initial} {' '.join(attributes)}"
    found = {"a.weight:1[4]": Z, gates: Z if zero else M}
    return Case(name, build, found, covers=kind)


RECURRENT = [
    _recurrent("LSTM", 1, False),
    _recurrent("LSTM", 2, True),
    _recurrent("GRU", 2, False),
    _recurrent("GRU", 1, False, linear_before_reset=1),
    _recurrent("RNN", 1, False),
    _recurrent("RNN", 1, False, activations=["Sigmoid"]),
]

CASES = [
    *UNARY, *PAIRS, *CONVOLUTION, *SHAPE, *REDUCTION, *INDEXING, *RECURRENT, *fused_cases.CASES,
    *integer_cases.CASES,
]  # fmt: skip
