"""Small graphs with the report on them, made without any framework."""

import numpy as np

from autoprune.ir.graph import Graph, Node, Parameter, Value, verify
from autoprune.passes.pruning.analysed import analyse
from autoprune.passes.pruning.reporting import make_report
from autoprune.passes.pruning.request import DEFAULTS
from autoprune.report import Report


def linear(name: str, x: Value, width: int, module: str = "", source: str = ""):
    """A linear layer without bias: its weight and its call."""
    weight = Value(f"{module or name}.weight", (width, x.shape[-1]), "float32")
    out = Value(name, (*x.shape[:-1], width), "float32")
    arguments = {"input": x, "weight": weight, "bias": None}
    modules = tuple(".".join(module.split(".")[: i + 1]) for i in range(module.count(".") + 1))
    node = Node(name, "aten.linear.default", arguments, (out,), modules if module else (), source)
    return Parameter(weight, (weight.name,), "parameter"), node


def relu(name: str, x: Value, module: tuple[str, ...] = ()) -> Node:
    return Node(name, "aten.relu.default", {"self": x}, (Value(name, x.shape, x.dtype),), module)


def perceptron(layers: int = 2, *, name: str = "fc", source: str = "net.py:3: fc(x)") -> Graph:
    """Linear layers with ReLU in between; layer `i` is module `blocks.i.NAME`."""
    x = Value("x", (2, 8), "float32")
    parameters, nodes, here = [], [], x
    for i in range(layers):
        weight, node = linear(f"{name}_{i}", here, 16, f"blocks.{i}.{name}", source)
        after = relu(f"relu_{i}", node.outputs[0], ("blocks", f"blocks.{i}"))
        parameters.append(weight)
        nodes += [node, after]
        here = after.outputs[0]
    graph = Graph((x,), tuple(parameters), tuple(nodes), (here,))
    verify(graph)
    return graph


def report(graph: Graph, keep: int | None = None) -> Report:
    """The report on a graph, of each of whose groups the first `keep` units stay."""
    analysis = analyse(graph, DEFAULTS)
    kept = {} if keep is None else {g.leaf.uid: np.arange(keep) for g in analysis.found}
    return make_report(analysis, kept, {})
