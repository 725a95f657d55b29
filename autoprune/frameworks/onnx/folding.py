"""Constants that removed units leave, added to the bias of the convolution that reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from autoprune.analysis.folding import folding_calls, operand, spared_parameters
from autoprune.analysis.typing import TypedGraph
from autoprune.frameworks.onnx.file import session_for
from autoprune.frameworks.onnx.large import copied
from autoprune.frameworks.onnx.run import with_outputs
from autoprune.frameworks.onnx.sessions import run
from autoprune.frameworks.onnx.tensors import read_tensor, write_tensor, zeroed_model
from autoprune.frameworks.onnx.trace import TracedOnnx
from autoprune.ir.graph import Node
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept, kept_masks

Array = NDArray[Any]


def fold(
    traced: TracedOnnx, typed: TypedGraph, groups: Mapping[int, Group], kept: Kept
) -> TracedOnnx:
    """The traced model, uncut, with biases that take up what folded units leave.

    The constants do not depend on the inputs.
    """
    sites = folding_calls(typed, groups, kept)
    if not sites:
        return traced
    zeroed = zeroed_model(traced, typed, kept, spared_parameters(typed, groups, kept))
    names = [operand(node, "input").name for node, _ in sites]
    seen = with_outputs(zeroed, names)
    values = run(session_for(seen, optimize=False), names, traced.feed)
    inputs = dict(zip(names, values, strict=True))
    model = copied(traced.model)
    for node, uids in sites:
        x = inputs[operand(node, "input").name]
        added = _constant(traced, typed, node, {uid: kept[uid] for uid in uids}, x)
        bias = operand(node, "bias")
        owner = traced.owners[bias.name]
        write_tensor(model, owner, read_tensor(traced.model, owner, bias.shape) + added)
    return dataclasses.replace(traced, file=dataclasses.replace(traced.file, model=model))


def _constant(traced: TracedOnnx, typed: TypedGraph, node: Node, kept: Kept, x: Array) -> Array:
    """What the removed positions of a layer's input add to its outputs, one number each."""
    source, weight = operand(node, "input"), operand(node, "weight")
    staying: Array = np.ones((), bool)
    for mask in kept_masks(typed.types[source.name], kept):
        staying = staying & mask
    x = np.where(staying, np.zeros((), x.dtype), x)
    call = onnx.NodeProto()
    call.CopyFrom(traced.model.graph.node[traced.positions[node.name]])
    del call.input[2:]
    matrix = read_tensor(traced.model, traced.owners[weight.name], weight.shape)
    tensors = [
        numpy_helper.from_array(x, source.name), numpy_helper.from_array(matrix, weight.name)
    ]  # fmt: skip
    outputs = [onnx.ValueInfoProto(name=call.output[0])]
    graph = helper.make_graph([call], "constant", [], outputs, tensors)
    model = helper.make_model(
        graph, opset_imports=traced.model.opset_import, ir_version=traced.model.ir_version
    )
    (added,) = run(session_for(model, 1, optimize=False), None, {})
    channels: Array = np.moveaxis(added, 1, -1).reshape(-1, added.shape[1])[0]
    return channels
