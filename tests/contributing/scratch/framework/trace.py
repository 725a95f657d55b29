"""A perceptron as a graph, in its text form."""

from __future__ import annotations

from autoprune.ir.graph import Graph
from autoprune.ir.text import parse_graph
from tests.contributing.scratch.framework.model import Perceptron


def trace(model: Perceptron, batch: int) -> Graph:
    widths = [model.weights[f"{i}.weight"].shape for i in range(model.depth)]
    lines = [f"graph(%x: float32[{batch},{widths[0][1]}]) {{"]
    for i, (outputs, inputs) in enumerate(widths):
        lines += [
            f"%{i}.weight: float32[{outputs},{inputs}] = parameter",
            f"%{i}.bias: float32[{outputs}] = parameter",
        ]
    x = "x"
    for i, (outputs, _) in enumerate(widths):
        shape = f"float32[{batch},{outputs}]"
        layer = f"input=%{x}, weight=%{i}.weight, bias=%{i}.bias"
        lines += [
            f"%{i}: {shape} = aten.linear.default({layer})",
            f"%{i}.active: {shape} = aten.sigmoid.default(input=%{i})",
        ]
        x = f"{i}.active"
    return parse_graph("\n".join([*lines[:-1], f"return %{len(widths) - 1}", "}"]))
