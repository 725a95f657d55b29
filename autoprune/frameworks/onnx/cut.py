"""Graph + kept units -> the same ONNX graph with smaller tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import onnx
from onnx import helper

from autoprune.analysis.resizing import resized_calls, sizes_of
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import GraphError
from autoprune.frameworks.onnx.file import opset
from autoprune.frameworks.onnx.new_numbers import NumberRewriter
from autoprune.frameworks.onnx.norms import ShareOfNorm
from autoprune.frameworks.onnx.tensors import Additions, cut_tensors, readers_of
from autoprune.frameworks.onnx.trace import TracedOnnx
from autoprune.ir import axes as ax
from autoprune.ir.graph import Argument
from autoprune.ir.positions import Kept
from autoprune.ops.views import Resized

_OPTIONAL = {
    ("Split", "split"): "split",
    ("Squeeze", "dim"): "axes",
    ("RMSNormalization", "eps"): "epsilon",
    ("SimplifiedLayerNormalization", "eps"): "epsilon",
    ("SkipSimplifiedLayerNormalization", "eps"): "epsilon",
    ("Attention", "scale"): "scale",
    ("Attention", "sizes"): "qkv_hidden_sizes",
    ("MultiHeadAttention", "scale"): "scale",
    ("GroupQueryAttention", "scale"): "scale",
}
"""Arguments that a node may leave out and a cut has to state, as ONNX calls them."""

_INPUT_SINCE_13 = {"split", "axes"}
"""Those that are the second input since opset 13."""


def cut_model(traced: TracedOnnx, typed: TypedGraph, kept: Kept) -> onnx.ModelProto:
    """The model without the units that are not kept; what the cut does not touch stays.

    Raises:
        GraphError: if an argument that changes cannot be written.
    """
    model = cut_tensors(traced, typed, kept)
    calls = resized_calls(typed, kept)
    additions = Additions(model.graph)
    numbers = NumberRewriter(model, traced, typed, kept, calls, additions)
    numbers.rewrite()
    rewriter = _CallRewriter(model, traced, additions)
    for name, call in calls.items():
        if name in traced.positions:
            rewriter.rewrite(name, call)
    _insert(model.graph, numbers.before, rewriter.instead)
    _drop_unused(model.graph, traced)
    _update_shapes(model.graph, traced, typed, kept)
    return model


@dataclass
class _CallRewriter:
    """Writes arguments that are attributes, or that were not there; adds rescaling."""

    model: onnx.ModelProto
    traced: TracedOnnx
    additions: Additions
    instead: dict[int, list[onnx.NodeProto]] = field(default_factory=dict)
    """Nodes by the position of the node whose place they take."""

    def rewrite(self, name: str, call: Resized) -> None:
        position = self.traced.positions[name]
        node = self.model.graph.node[position]
        if call.op is not None:
            raise GraphError(f"{call.op} has no counterpart in ONNX", where=f"node {name}")
        places = self.traced.slots[name]
        for argument, value in call.arguments.items():
            place = places.get(argument)
            if isinstance(place, str):
                _set_attribute(node, place, value)
            elif place is None and (node.op_type, argument) in _OPTIONAL:
                self._state(node, _OPTIONAL[node.op_type, argument], value)
            # Other arguments without a place follow from the shapes.
        if call.share != 1.0:
            self._rescale_norm(position, name, call.share)
        if call.scale != 1.0:
            self._scale(position, name, call.scale)

    def _rescale_norm(self, position: int, name: str, share: float) -> None:
        node = self.model.graph.node[position]
        seen = self.traced.numbers.seen[name]
        version = opset(self.model)
        norm = ShareOfNorm(node, share, len(seen.shape), seen.dtype, version, self.additions)
        self.instead[position] = norm.build()

    def _state(self, node: onnx.NodeProto, name: str, value: Argument) -> None:
        """State an argument that the node left to its default."""
        if name not in _INPUT_SINCE_13 or opset(self.model) < 13:
            _set_attribute(node, name, value)
            return
        sizes = np.array(value, dtype=np.int64)
        node.input.append(self.additions.constant(node.output[0], sizes))
        _remove_attribute(node, "num_outputs")

    def _scale(self, position: int, name: str, factor: float) -> None:
        """Multiply an output; the product takes over its name, so that all readers see it."""
        dtype = np.dtype(self.traced.numbers.seen[name].dtype)
        unscaled = self.additions.name(name)
        node = self.model.graph.node[position]
        node.output[list(node.output).index(name)] = unscaled
        factors = [unscaled, self.additions.constant(name, np.array(factor, dtype))]
        scaled = self.additions.node("Mul", factors, name)
        scaled.output[0] = name
        self.instead.setdefault(position, [node]).append(scaled)


def _set_attribute(node: onnx.NodeProto, name: str, value: Argument) -> None:
    _remove_attribute(node, name)
    plain = list(value) if isinstance(value, tuple) else value
    node.attribute.append(helper.make_attribute(name, plain))


def _remove_attribute(node: onnx.NodeProto, name: str) -> None:
    for i, attribute in enumerate(node.attribute):
        if attribute.name == name:
            del node.attribute[i]
            return


def _insert(
    graph: onnx.GraphProto,
    before: Mapping[int, list[onnx.NodeProto]],
    instead: Mapping[int, list[onnx.NodeProto]],
) -> None:
    if not before and not instead:
        return
    pairs = ((*before.get(i, ()), *instead.get(i, [node])) for i, node in enumerate(graph.node))
    copies = onnx.GraphProto(node=chain.from_iterable(pairs))
    del graph.node[:]
    graph.node.extend(copies.node)


def _drop_unused(graph: onnx.GraphProto, traced: TracedOnnx) -> None:
    """Remove initializers that the cut left without a reader."""
    lost = set(readers_of(traced.model.graph)) - set(readers_of(graph))
    for tensors in (graph.initializer, graph.input):
        for i in range(len(tensors) - 1, -1, -1):
            owner = traced.owners.get(tensors[i].name)
            if tensors[i].name in lost and owner is not None and owner.kind == "initializer":
                del tensors[i]


def _update_shapes(
    graph: onnx.GraphProto, traced: TracedOnnx, typed: TypedGraph, kept: Kept
) -> None:
    """Bring declared shapes up to date; those of numbers that may have changed are dropped."""
    sizes = sizes_of(kept)
    defined = {name for node in graph.node for name in node.output}
    defined.update(t.name for t in graph.initializer)
    for i in range(len(graph.value_info) - 1, -1, -1):
        name = graph.value_info[i].name
        if name in traced.numbers.sized or name not in defined:
            del graph.value_info[i]
    tensors = {t.name: t for t in graph.initializer}
    loose = {v.name for v in typed.graph.loose}
    outputs = (o for o in graph.output if o.name in loose)
    for value in (*graph.value_info, *graph.input, *outputs):
        dims = value.type.tensor_type.shape.dim
        tensor, axes = tensors.get(value.name), typed.types.get(value.name, ())
        new = [ax.size(axis, sizes) for axis in axes] if tensor is None else tensor.dims
        if len(dims) == len(new):
            for dim, n in zip(dims, new, strict=True):
                if dim.HasField("dim_value"):
                    dim.dim_value = n
