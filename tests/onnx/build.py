"""Small ONNX models, written node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSION = 10
LATEST = 23
"""The newest opset that ONNX Runtime has kernels for throughout."""


class Builder:
    """Collects nodes, weights and inputs.

    Args:
        opset: version of the standard operators.
        constants: write weights as Constant nodes instead of initializers.
    """

    def __init__(self, opset: int = 17, *, constants: bool = False) -> None:
        self.opset = opset
        self.constants = constants
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.count = 0

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def weight(self, name: str, *shape: int, scale: float = 0.7) -> str:
        return self.tensor(name, (self.rng.standard_normal(shape) * scale).astype(np.float32))

    def positive(self, name: str, *shape: int) -> str:
        return self.tensor(name, self.rng.uniform(0.5, 2, shape).astype(np.float32))

    def tensor(self, name: str, array: np.ndarray[Any, Any]) -> str:
        proto = numpy_helper.from_array(array, name)
        if self.constants:
            self.nodes.append(helper.make_node("Constant", [], [name], value=proto))
        else:
            self.initializers.append(proto)
        return name

    def ints(self, *numbers: int, name: str = "") -> str:
        self.count += 1
        return self.tensor(name or f"ints{self.count}", np.array(numbers, dtype=np.int64))

    def scalar(self, number: float, dtype: str = "float32") -> str:
        self.count += 1
        return self.tensor(f"number{self.count}", np.array(number, dtype=dtype))

    def node(
        self,
        op: str,
        *inputs: str,
        outputs: int = 1,
        missing: Sequence[int] = (),
        domain: str = "",
        **attributes: Any,
    ) -> Any:
        """Add a node; returns the name of its output, or their names if there are several.

        Outputs at the positions in `missing` are left out.
        """
        self.count += 1
        name = f"{op}{self.count}"
        names = (
            [name]
            if outputs == 1
            else ["" if i in missing else f"{name}.{i}" for i in range(outputs)]
        )
        self.nodes.append(
            helper.make_node(op, list(inputs), names, name=name, domain=domain, **attributes)
        )
        return names[0] if outputs == 1 else names

    def model(self, *outputs: str, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "graph",
            self.inputs,
            [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        domains = {n.domain for n in self.nodes if n.domain}
        opsets += [helper.make_opsetid(domain, 1) for domain in domains]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        inferred = onnx.shape_inference.infer_shapes(model)
        for output, found in zip(model.graph.output, inferred.graph.output, strict=True):
            output.CopyFrom(found)
        return model

    def linear(self, name: str, x: str, inputs: int, outputs: int) -> str:
        """`x @ weight + bias`."""
        product = self.node("MatMul", x, self.weight(f"{name}.weight", inputs, outputs))
        return str(self.node("Add", product, self.weight(f"{name}.bias", outputs)))

    def convolution(
        self, name: str, x: str, inputs: int, outputs: int, kernel: int = 1, **attributes: Any
    ) -> str:
        weight = self.weight(f"{name}.weight", outputs, inputs, kernel, kernel)
        return str(self.node("Conv", x, weight, self.weight(f"{name}.bias", outputs), **attributes))

    def head(self, x: str, channels: int, outputs: int = 2) -> str:
        """Mean over pixels and a linear layer."""
        flat = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        weight = self.weight("z.weight", outputs, channels)
        return str(self.node("Gemm", flat, weight, self.weight("z.bias", outputs), transB=1))
