"""Single calls of a traced ONNX model as samples to experiment on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from autoprune.analysis.experiments.experiment import Runner, Sample
from autoprune.errors import RuleError
from autoprune.frameworks.onnx.file import session_for
from autoprune.frameworks.onnx.run import observe
from autoprune.frameworks.onnx.sessions import run
from autoprune.frameworks.onnx.trace import TracedOnnx
from autoprune.ir.graph import Node, Value
from autoprune.ops.views import Resized

Arrays = Mapping[str, NDArray[Any]]


def sample_calls(traced: TracedOnnx, names: Collection[str]) -> dict[str, Sample | RuleError]:
    """The calls of the given nodes of unknown operators, on the operands of the example inputs.

    Args:
        traced: the traced model.
        names: of nodes, whose tensors are the argument `tensors`.

    Returns:
        By node name, the sample, or why there can be none.
    """
    values = {t.name: numpy_helper.to_array(t) for t in traced.model.graph.initializer}
    values.update(traced.feed)
    values.update(observe(traced.model, traced.feed))
    samples: dict[str, Sample | RuleError] = {}
    for node in traced.graph.nodes:
        if node.name in names:
            try:
                samples[node.name] = _sample(traced, node, values)
            except RuleError as error:
                samples[node.name] = error
    return samples


def _sample(traced: TracedOnnx, node: Node, values: Arrays) -> Sample:
    if node.name not in traced.positions:
        raise RuleError("it is no node of the model", where=str(node))
    proto = traced.model.graph.node[traced.positions[node.name]]
    if any(a.HasField("g") or a.graphs for a in proto.attribute):
        raise RuleError("it holds a subgraph", where=str(node))
    operands = {value.name: values[value.name] for value in node.inputs}
    constants = frozenset(operands) & traced.graph.parameter_of.keys()
    return Sample(node, operands, _runner(traced.model, proto, node, operands), constants)


def run_alone(
    model: onnx.ModelProto, proto: onnx.NodeProto, operands: Arrays
) -> tuple[NDArray[Any], ...]:
    """What a node of a model computes from other operands, by name."""
    return tuple(run(_session(model, proto, operands), None, operands))


def _session(model: onnx.ModelProto, proto: onnx.NodeProto, operands: Arrays) -> Any:
    """A session for a model of one node, whose inputs have no fixed shapes."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in operands.items()
    ]
    alone = onnx.ModelProto(ir_version=model.ir_version, graph=onnx.GraphProto(name="call"))
    alone.opset_import.extend(model.opset_import)
    alone.functions.extend(model.functions)
    alone.graph.node.append(proto)
    alone.graph.input.extend(inputs)
    alone.graph.output.extend(onnx.ValueInfoProto(name=n) for n in proto.output if n)
    return session_for(alone, optimize=False)


def _runner(model: onnx.ModelProto, proto: onnx.NodeProto, node: Node, operands: Arrays) -> Runner:
    """Runs the node alone."""
    session = _session(model, proto, operands)
    tensors = node.arguments["tensors"]
    assert isinstance(tensors, tuple)
    names = [value.name for value in tensors if isinstance(value, Value)]

    def call_node(arguments: Mapping[str, Any], call: Resized) -> tuple[NDArray[Any], ...]:
        feed = dict(zip(names, arguments["tensors"], strict=True))
        return tuple(session.run([v.name for v in node.outputs], feed))

    return call_node
