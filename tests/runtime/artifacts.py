"""Small networks, and what is needed to compile them by hand."""

import numpy as np
from onnx import TensorProto, helper

from autoprune.passes.lower.artifact import Contents, NativeLibrary
from autoprune.runtime.cpu import this_cpu
from autoprune.runtime.manifest import TensorSpec

SPECS = ([TensorSpec("x", "float32", ("n", 4))], [TensorSpec("y", "float32", ("n", 4))])
X = np.arange(12, dtype=np.float32).reshape(3, 4)


def network(operator: str) -> bytes:
    """2x + 1, where the doubling is a custom operator, or standard ones."""
    double = (
        helper.make_node("Double", ["x"], ["d"], domain="autoprune")
        if operator == "custom"
        else helper.make_node("Add", ["x", "x"], ["d"])
    )
    graph = helper.make_graph(
        [double, helper.make_node("Add", ["d", "one"], ["y"])],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("autoprune", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def dense_contents() -> Contents:
    example = ({"x": X}, {"y": 2 * X + 1})
    return Contents(*SPECS, network("standard"), examples=[example], provenance={"plan": "5f"})


def native_library(data: bytes, *features: str, label: str = "here") -> NativeLibrary:
    cpu = this_cpu()
    return NativeLibrary(data, cpu.system, cpu.machine, features, label)
