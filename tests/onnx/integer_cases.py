"""Cases of quantized operators: integers that stand for fractions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.onnx.build import Builder
from tests.onnx.parts import Case, M, Op, Z, chain, image

MICROSOFT = "com.microsoft"


def _quantized(b: Builder, x: str) -> str:
    scale, zero = b.scalar(0.05), b.tensor("zero", np.array(3, np.int8))
    integers = b.node("QuantizeLinear", x, scale, zero)
    return str(b.node("DequantizeLinear", integers, scale, zero))


def _quantized_by_runtime(b: Builder, x: str) -> str:
    scale, zero = b.scalar(0.05), b.tensor("zero", np.array(300, np.int16))
    integers = b.node("QuantizeLinear", x, scale, zero, domain=MICROSOFT)
    return str(b.node("DequantizeLinear", integers, scale, zero, domain=MICROSOFT))


def _integer_weight(b: Builder) -> str:
    """A weight in int8 with a scale and a zero point for each channel, between Q and DQ."""
    x = b.input("x", (2, 3, 8, 8))
    weight = b.tensor("a.weight", b.rng.integers(-90, 90, (6, 3, 1, 1)).astype(np.int8))
    scale = b.positive("a.scale", 6)
    zero = b.tensor("a.zero", b.rng.integers(-9, 9, 6).astype(np.int8))
    filters = b.node("DequantizeLinear", weight, scale, zero, axis=0)
    y = _quantized(b, b.node("Mul", b.node("Conv", x, filters), b.scalar(0.01)))
    return b.head(b.node("Relu", y), 6)


def _in_blocks(b: Builder, x: str) -> str:
    integers = b.tensor("b.integers", b.rng.integers(-90, 90, (6, 4)).astype(np.int8))
    weight = b.node("DequantizeLinear", integers, b.positive("b.scale", 3, 4), axis=0, block_size=2)
    return str(b.node("MatMul", x, weight))


def _scales(b: Builder, name: str, size: int = 0) -> tuple[str, str]:
    """A scale and a zero point, one in all or one for each output."""
    shape = (size,) if size else ()
    scale = b.rng.uniform(0.005, 0.02, shape).astype(np.float32)
    zero = b.rng.integers(-9, 9, shape).astype(np.int8)
    return b.tensor(f"{name}.scale", scale), b.tensor(f"{name}.zero", np.asarray(zero))


def _integers(b: Builder, name: str, *shape: int) -> str:
    return b.tensor(name, b.rng.integers(-90, 90, shape).astype(np.int8))


def _as_integers(b: Builder, x: str, name: str) -> tuple[str, str, str]:
    """A tensor as integers, with scale and zero point."""
    scale = b.tensor(f"{name}.scale", np.array(0.05, np.float32))
    zero = b.tensor(f"{name}.zero", np.array(5, np.int8))
    return str(b.node("QuantizeLinear", x, scale, zero)), scale, zero


def _fractions(b: Builder, x: str, scale: str, zero: str) -> str:
    return str(b.node("DequantizeLinear", x, scale, zero))


def _ended(op: str, domain: str = "", **attributes: Any) -> Op:
    """An operator of one tensor, with scales and zero points before and after."""

    def build(b: Builder, x: str) -> str:
        given = _as_integers(b, x, "q")
        after = b.tensor("y.scale", np.array(0.03, np.float32)), given[2]
        y = b.node(op, *given, *after, domain=domain, **attributes)
        return _fractions(b, y, *after)

    return build


def _two(op: str) -> Op:
    def build(b: Builder, x: str) -> str:
        left, right = (_as_integers(b, t, n) for t, n in ((x, "p"), (b.node("Sin", x), "q")))
        after = b.tensor("y.scale", np.array(0.1, np.float32)), left[2]
        y = b.node(op, *left, *right, *after, domain=MICROSOFT)
        return _fractions(b, y, *after)

    return build


def _joined(b: Builder, x: str) -> str:
    left, right = (_as_integers(b, t, n) for t, n in ((x, "p"), (b.node("Sin", x), "q")))
    after = b.tensor("y.scale", np.array(0.05, np.float32)), left[2]
    y = b.node("QLinearConcat", *after, *left, *right, domain=MICROSOFT, axis=1)
    return _fractions(b, y, *after)


def _convolved(per_channel: bool, **attributes: Any) -> Op:
    def build(b: Builder, x: str) -> str:
        given = _as_integers(b, x, "q")
        size = 5 if per_channel else 0
        scale, zero = _scales(b, "m", size)
        if per_channel:
            zero = b.tensor("m.zeros", np.zeros(5, np.int8))
        after = b.tensor("y.scale", np.array(0.1, np.float32)), given[2]
        bias = b.tensor("bias", b.rng.integers(-200, 200, 5).astype(np.int32))
        weight = _integers(b, "m", 5, 6, 1, 1)
        y = b.node("QLinearConv", *given, weight, scale, zero, *after, bias, **attributes)
        return _fractions(b, y, *after)

    return build


def _multiplied(b: Builder, x: str) -> str:
    given = _as_integers(b, x, "q")
    after = b.tensor("y.scale", np.array(0.1, np.float32)), given[2]
    y = b.node("QLinearMatMul", *given, _integers(b, "m", 6, 4), *_scales(b, "m"), *after)
    return _fractions(b, y, *after)


def _gemm(b: Builder, x: str) -> str:
    given = _as_integers(b, x, "q")
    after = b.tensor("y.scale", np.array(0.1, np.float32)), given[2]
    bias = b.tensor("bias", b.rng.integers(-200, 200, 4).astype(np.int32))
    weight = _integers(b, "m", 4, 6)
    y = b.node("QGemm", *given, weight, *_scales(b, "m", 4), bias, *after, transB=1,
               domain=MICROSOFT)  # fmt: skip
    return _fractions(b, y, *after)


def _dynamic(b: Builder, x: str) -> tuple[str, str, str]:
    y, scale, zero = b.node("DynamicQuantizeLinear", x, outputs=3)
    return y, scale, zero


def _integers_only(b: Builder, x: str) -> str:
    """As `quantize_dynamic` of ONNX Runtime writes a layer."""
    y, scale, zero = _dynamic(b, x)
    of, at = _scales(b, "m", 4)
    product = b.node("Cast", b.node("MatMulInteger", y, _integers(b, "m", 6, 4), zero, at), to=1)
    return str(b.node("Mul", product, b.node("Mul", scale, of)))


def _to_float(b: Builder, x: str) -> str:
    y, scale, zero = _dynamic(b, x)
    of, at = _scales(b, "m", 4)
    given = y, _integers(b, "m", 6, 4), scale, of, zero, at, b.weight("bias", 4)
    return str(b.node("MatMulIntegerToFloat", *given, domain=MICROSOFT))


def _dynamic_product(b: Builder, x: str) -> str:
    given = _integers(b, "m", 6, 4), *_scales(b, "m", 4), b.weight("bias", 4)
    return str(b.node("DynamicQuantizeMatMul", x, *given, domain=MICROSOFT))


def _integer_convolution(b: Builder, x: str) -> str:
    y, scale, zero = _dynamic(b, x)
    weight = b.tensor("m", b.rng.integers(0, 200, (5, 6, 1, 1)).astype(np.uint8))
    at = b.tensor("m.zero", np.array(100, np.uint8))
    product = b.node("Cast", b.node("ConvInteger", y, weight, zero, at), to=1)
    return str(b.node("Mul", b.node("Mul", product, scale), b.scalar(0.01)))


def _four_bits(b: Builder, x: str) -> str:
    """Sixteen inputs in one block."""
    wide = b.node("MatMul", x, b.weight("w", 6, 16))
    packed = b.tensor("m", b.rng.integers(0, 255, (5, 1, 8)).astype(np.uint8))
    return str(b.node("MatMulNBits", wide, packed, b.positive("m.scale", 5), K=16, N=5, bits=4,
                      block_size=16, domain=MICROSOFT))  # fmt: skip


MADE = {"a.weight:1[6]": Z, "m:1[4]": Z}

CASES = [
    chain("Q and DQ", _quantized, Z, covers="QuantizeLinear DequantizeLinear"),
    Case("integer weight", _integer_weight, {"a.weight:0[6]": Z}, covers="DequantizeLinear"),
    Case("weight in blocks", lambda b: b.linear("z", b.node("Relu", _in_blocks(
        b, b.linear("a", b.input("x", (5, 3)), 3, 6))), 4, 2), {"b.integers:1[4]": Z}, 21),
    *(image(f"QLinearConv {name}", op, {"a.weight:0[6]": Z, "m:0[5]": Z}, out=5,
            covers="QLinearConv")
      for name, op in (("", _convolved(False)), ("of channels", _convolved(True)),
                       ("padded", _convolved(False, pads=[1, 1, 1, 1])))),
    image("QLinearConv of ONNX Runtime", _convolved(False, domain=MICROSOFT),
          {"a.weight:0[6]": Z, "m:0[5]": Z}, out=5, covers="microsoft.QLinearConv"),
    image("ConvInteger", _integer_convolution, {"a.weight:0[6]": Z, "m:0[5]": Z}, out=5),
    chain("QLinearMatMul", _multiplied, MADE, out=4),
    chain("QGemm", _gemm, {"a.weight:1[6]": Z, "m:0[4]": Z}, out=4, covers="microsoft.QGemm"),
    chain("integers only", _integers_only, MADE, out=4,
          covers="DynamicQuantizeLinear MatMulInteger"),
    chain("MatMulIntegerToFloat", _to_float, MADE, out=4,
          covers="microsoft.MatMulIntegerToFloat"),
    chain("DynamicQuantizeMatMul", _dynamic_product, MADE, out=4,
          covers="microsoft.DynamicQuantizeMatMul"),
    chain("MatMulNBits", _four_bits, {"a.weight:1[6]": Z, "m:0[5]": Z}, out=5,
          covers="microsoft.MatMulNBits"),
    *(chain(op, _two(op), Z, covers=f"microsoft.{op}") for op in ("QLinearAdd", "QLinearMul")),
    chain("QLinearLeakyRelu", _ended("QLinearLeakyRelu", MICROSOFT), Z,
          covers="microsoft.QLinearLeakyRelu"),
    chain("QLinearSigmoid", _ended("QLinearSigmoid", MICROSOFT), M,
          covers="microsoft.QLinearSigmoid"),
    chain("QLinearSoftmax", _ended("QLinearSoftmax", MICROSOFT, axis=0, opset=13), M,
          covers="microsoft.QLinearSoftmax"),
    chain("Q and DQ of ONNX Runtime", _quantized_by_runtime, Z,
          covers="microsoft.QuantizeLinear microsoft.DequantizeLinear"),
    chain("QLinearConcat", _joined, Z, out=12, covers="microsoft.QLinearConcat"),
    *(image(op, _ended(op, MICROSOFT, **more), Z, covers=f"microsoft.{op}")
      for op, more in (("QLinearGlobalAveragePool", {}),
                       ("QLinearAveragePool", {"kernel_shape": [2, 2]}))),
]  # fmt: skip
