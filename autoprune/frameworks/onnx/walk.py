"""Everything in an ONNX model, wherever it stands: in subgraphs, in functions, in attributes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from autoprune.errors import TraceError

DEEPEST = 32
"""Subgraphs within each other; protobuf itself reads about as many."""


def subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in an attribute."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def graphs_of(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph of a model and every subgraph, also of its functions.

    Raises:
        TraceError: if they are nested too deeply.
    """
    yield from graphs_in(model.graph)
    for training in model.training_info:
        yield from graphs_in(training.initialization)
        yield from graphs_in(training.algorithm)
    for function in model.functions:
        for attribute in (*function.attribute_proto, *_attributes(function.node)):
            for graph in subgraphs(attribute):
                yield from graphs_in(graph)


def graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every subgraph below it.

    Raises:
        TraceError: if they are nested too deeply.
    """
    waiting = [(graph, 0)]
    while waiting:
        found, depth = waiting.pop()
        if depth > DEEPEST:
            raise TraceError(
                f"more than {DEEPEST} subgraphs are nested within each other",
                where=f"graph {found.name:.80}",
            )
        yield found
        for attribute in _attributes(found.node):
            waiting.extend((inner, depth + 1) for inner in subgraphs(attribute))


def attributes_of(model: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    """Every attribute of a node, and those that functions have as defaults."""
    for graph in graphs_of(model):
        yield from _attributes(graph.node)
    for function in model.functions:
        yield from function.attribute_proto
        yield from _attributes(function.node)


def sparse_tensors_of(model: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    """Every sparse tensor: initializers and attributes."""
    for graph in graphs_of(model):
        yield from graph.sparse_initializer
    for attribute in attributes_of(model):
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor
        yield from attribute.sparse_tensors


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor: initializers, attributes, and the two that make a sparse one."""
    for graph in graphs_of(model):
        yield from graph.initializer
    for attribute in attributes_of(model):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
    for sparse in sparse_tensors_of(model):
        yield sparse.values
        yield sparse.indices


def texts_of(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """Every name in a model, and what is said about nodes; bytes where it is no valid text."""
    yield from names_of(model)
    for node in _nodes_of(model):
        yield node.doc_string
        for entry in node.metadata_props:
            yield from (entry.key, entry.value)
    for tensor in tensors_of(model):
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)


def names_of(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """Every name in a model; bytes where it is no valid text."""
    for opset in model.opset_import:
        yield opset.domain
    for function in model.functions:
        yield from (function.domain, function.name, function.overload)
        yield from (*function.input, *function.output, *function.attribute)
    for graph in graphs_of(model):
        yield graph.name
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.name
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for node in _nodes_of(model):
        yield from (node.name, node.domain, node.op_type, node.overload)
        yield from (*node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)
    for tensor in tensors_of(model):
        yield tensor.name


def _nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for function in model.functions:
        yield from function.node
    for graph in graphs_of(model):
        yield from graph.node


def _attributes(nodes: Iterator[onnx.NodeProto]) -> Iterator[onnx.AttributeProto]:
    for node in nodes:
        yield from node.attribute
