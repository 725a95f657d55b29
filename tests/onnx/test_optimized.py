"""What ONNX Runtime's own tools make of a model: fused by its optimizer, quantized by its tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime import quantization
from onnxruntime.transformers.optimizer import optimize_model

import autoprune as ap
from tests.onnx.build import Builder
from tests.tolerance import CUT


def images() -> onnx.ModelProto:
    """Convolutions, one of them depthwise, with a sum around them, and a head."""
    b = Builder()
    x = b.node("Relu", b.convolution("a", b.input("x", (2, 3, 8, 8)), 3, 8, 3))
    deep = b.node("Conv", x, b.weight("deep", 8, 1, 1, 1), group=8)
    x = b.node("Add", x, b.node("Relu", b.convolution("b", deep, 8, 8)))
    return b.model(b.head(x, 8))


def tokens() -> onnx.ModelProto:
    """A residual stream with norms, and a hidden layer with GELU."""
    b = Builder()
    x = b.linear("a", b.input("x", (2, 4, 3)), 3, 8)
    for name in "bc":
        norm = b.node("LayerNormalization", x, b.weight(f"{name}.g", 8), b.weight(f"{name}.s", 8))
        hidden = b.linear(f"{name}.up", norm, 8, 12)
        root = b.node("Erf", b.node("Div", hidden, b.scalar(2**0.5)))
        half = b.node("Mul", b.node("Mul", hidden, b.node("Add", root, b.scalar(1))), b.scalar(0.5))
        x = b.node("Add", b.linear(f"{name}.down", half, 12, 8), x)
    return b.model(b.linear("z", x, 8, 2))


class Calibration(quantization.CalibrationDataReader):
    def __init__(self) -> None:
        x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
        self.batches = iter([{"x": x}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def optimized(folder: Path, model: onnx.ModelProto, level: str) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return onnx.load(folder / "optimized.onnx")


def static(folder: Path, form: str, *, per_channel: bool) -> onnx.ModelProto:
    onnx.save(images(), folder / "plain.onnx")
    quantization.quantize_static(
        folder / "plain.onnx",
        folder / "small.onnx",
        Calibration(),
        quant_format=quantization.QuantFormat[form],
        per_channel=per_channel,
        weight_type=quantization.QuantType.QInt8,
    )
    return onnx.load(folder / "small.onnx")


def dynamic(folder: Path) -> onnx.ModelProto:
    onnx.save(tokens(), folder / "plain.onnx")
    quantization.quantize_dynamic(
        folder / "plain.onnx",
        folder / "small.onnx",
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
    )
    return onnx.load(folder / "small.onnx")


def transformer(folder: Path) -> onnx.ModelProto:
    """As the optimizer for transformers writes it, which is not part of the runtime."""
    onnx.save(tokens(), folder / "plain.onnx")
    fused = optimize_model(str(folder / "plain.onnx"), "bert", opt_level=0)
    fused.save_model_to_file(str(folder / "small.onnx"))
    return onnx.load(folder / "small.onnx")


EXTENDED = "ORT_ENABLE_EXTENDED"

MAKE = {
    "fused images": (lambda p: optimized(p, images(), EXTENDED), "FusedConv"),
    "fused tokens": (lambda p: optimized(p, tokens(), EXTENDED), "Gelu"),
    "fused as a transformer": (transformer, "SkipLayerNormalization"),
    "QDQ": (lambda p: static(p, "QDQ", per_channel=True), "DequantizeLinear"),
    "QOperator": (lambda p: static(p, "QOperator", per_channel=False), "QLinearConv"),
    "QOperator of channels": (lambda p: static(p, "QOperator", per_channel=True), "QLinearConv"),
    "dynamic": (dynamic, "MatMulInteger"),
    "dynamic, fused": (lambda p: optimized(p, dynamic(p), EXTENDED), "DynamicQuantizeMatMul"),
}


@pytest.mark.parametrize("name", MAKE)
def test_cut_equals_zeroed(name, tmp_path):
    make, operator = MAKE[name]
    model = make(tmp_path)
    assert operator in {node.op_type for node in model.graph.node}
    result = ap.prune(model, channels=0.5, multiple_of=1, criterion="random")
    exact = {row.name for row in result.report.groups if row.kept < row.units}
    assert len(exact) >= 1
    assert result.report.error < CUT
    assert not result.report.unknown_operators


def test_a_layout_for_one_processor_is_left_whole(tmp_path):
    model = optimized(tmp_path, images(), "ORT_ENABLE_ALL")
    if not any(node.domain == "com.microsoft.nchwc" for node in model.graph.node):
        pytest.skip("ONNX Runtime has no such layout for this processor")
    with pytest.raises(ap.BudgetError, match="packed in the layout of a processor"):
        ap.prune(model, channels=0.5)
