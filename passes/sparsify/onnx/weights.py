"""Which tensors of an ONNX model become sparse, as matrices, and in which format each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from autoprune.frameworks.onnx.walk import subgraphs
from autoprune.passes.patterns import check_patterns, first_match
from autoprune.passes.sparsify.layout import Array, Format
from autoprune.passes.sparsify.specs import (
    FormatSpec,
    check_spec,
    format_for,
    none_found,
    unusual_shape,
)

KINDS = {"Conv": "conv", "MatMul": "linear", "Gemm": "linear"}
"""Operators that multiply by a weight, which is their second input."""

SCALES = ("alpha", "beta")
"""Attributes of Gemm that weights and bias are multiplied by."""

FLOATS = (np.float16, np.float32, np.float64)


@dataclass(frozen=True, eq=False)
class OnnxWeight:
    """A tensor that becomes sparse.

    Attributes:
        name: of the tensor.
        tensor: in the model, where it is written to.
        format: as a matrix [outputs, kernel * inputs].
        kind: `linear` or `conv`.
        transposed: whether it is stored as [inputs, outputs].
        nodes: that multiply by it, all in the same way.
    """

    name: str
    tensor: onnx.TensorProto
    format: Format
    kind: str
    transposed: bool
    nodes: tuple[onnx.NodeProto, ...]

    @property
    def dims(self) -> tuple[int, ...]:
        """Of the weight, [outputs, inputs, *kernel]."""
        dims = tuple(self.tensor.dims)
        return dims[::-1] if self.transposed else dims

    def matrix(self) -> Array:
        """Its values now; inputs run fastest, so that a pattern is one of inputs at one tap.

        Half precision becomes single.
        """
        values = numpy_helper.to_array(self.tensor)
        values = values.astype(np.float32) if values.dtype == np.float16 else values
        ordered = values.T if self.transposed else np.moveaxis(values, 1, -1)
        return np.ascontiguousarray(ordered.reshape(len(ordered), -1))

    def shaped(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """A matrix in the shape of the tensor."""
        outputs, inputs, *kernel = self.dims
        if self.transposed:
            return np.ascontiguousarray(matrix.T)
        return np.ascontiguousarray(np.moveaxis(matrix.reshape(outputs, *kernel, inputs), -1, 1))

    def write(self, matrix: Array) -> None:
        """Put values into the tensor."""
        dtype = helper.tensor_dtype_to_np_dtype(self.tensor.data_type)
        values = self.shaped(matrix).astype(dtype)
        self.tensor.CopyFrom(numpy_helper.from_array(values, self.tensor.name))


def find_weights(
    model: onnx.ModelProto, format: FormatSpec, ignore: Sequence[str]
) -> tuple[list[OnnxWeight], dict[str, str]]:
    """The tensors that become sparse, and why the weights of other layers stay dense, by name.

    Args:
        model: the model, whose tensors are referred to.
        format: one for all linear layers and convolutions, or by the names or patterns of weights
            or of the nodes that multiply by them; the first pattern that matches counts.
        ignore: names or patterns of such to leave dense.

    Raises:
        AutopruneError: if a pattern matches nothing.
        FormatError: if a format is unknown, or fits no layer.
    """
    check_spec(format)
    found = list(_candidates(model))
    named = format if isinstance(format, Mapping) else {}
    everything = [n for name, _, nodes in found for n in (name, *(node.name for node in nodes))]
    check_patterns(ignore, everything, "ignore")
    check_patterns(named, everything, "format")
    readers = _readers(model.graph)
    weights: list[OnnxWeight] = []
    reasons: dict[str, str] = {}
    for name, tensor, nodes in found:
        own = (name, *(node.name for node in nodes))
        ignored, named_by = first_match(ignore, own), first_match(named, own)
        wanted = None if named_by is None else named[named_by]
        if isinstance(format, Mapping) and wanted is None:
            continue
        weight, obstacle = None, _obstacle(tensor, nodes, readers.get(name, 0))
        if ignored is not None:
            obstacle = f"ignore={ignored!r}"
        if not obstacle:
            weight, obstacle = _weight(name, tensor, nodes, format, wanted)
        if weight is None:
            reasons[name] = obstacle
        else:
            weights.append(weight)
    if not weights:
        raise none_found(format, reasons)
    return weights, reasons


def _candidates(
    model: onnx.ModelProto,
) -> Iterator[tuple[str, onnx.TensorProto, tuple[onnx.NodeProto, ...]]]:
    """Constant tensors of two dimensions or more, with the nodes that multiply by them."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                tensors[node.output[0]] = attribute.t
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type in KINDS and node.domain in ("", "ai.onnx") and len(node.input) > 1:
            users.setdefault(node.input[1], []).append(node)
    for name, nodes in users.items():
        if name in tensors and len(tensors[name].dims) > 1:
            yield name, tensors[name], tuple(nodes)


def _readers(graph: onnx.GraphProto) -> dict[str, int]:
    """How often every value is read, in subgraphs and as an output, too."""
    count: dict[str, int] = {}
    for value in graph.output:
        count[value.name] = count.get(value.name, 0) + 1
    for node in graph.node:
        for name in node.input:
            count[name] = count.get(name, 0) + 1
        for attribute in node.attribute:
            for inner in subgraphs(attribute):
                for name, times in _readers(inner).items():
                    count[name] = count.get(name, 0) + times
    return count


def _obstacle(tensor: onnx.TensorProto, nodes: Sequence[onnx.NodeProto], read: int) -> str:
    """Why no weight like this can become sparse."""
    first = nodes[0]
    if helper.tensor_dtype_to_np_dtype(tensor.data_type) not in FLOATS:
        return f"it is of {onnx.TensorProto.DataType.Name(tensor.data_type).lower()}"
    if first.op_type != "Conv" and len(tensor.dims) != 2:
        return "it is no matrix"
    if read > len(nodes):
        return "another operator reads it, too"
    if any(_settings(node) != _settings(first) for node in nodes):
        return "operators multiply by it in different ways"
    return ""


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    """What tells how a node multiplies by its weight."""
    attributes = (a for a in node.attribute if a.name not in SCALES)
    return {"op_type": node.op_type, **{a.name: helper.get_attribute_value(a) for a in attributes}}


def _weight(
    name: str,
    tensor: onnx.TensorProto,
    nodes: tuple[onnx.NodeProto, ...],
    format: FormatSpec,
    wanted: str | Format | None,
) -> tuple[OnnxWeight | None, str]:
    settings, kind = _settings(nodes[0]), KINDS[nodes[0].op_type]
    transposed = kind == "linear" and not settings.get("transB", 0)
    dims = tuple(tensor.dims)[::-1] if transposed else tuple(tensor.dims)
    if wanted is None:
        assert not isinstance(format, Mapping)
        wanted = format
        if obstacle := unusual_shape(dims, int(settings.get("group", 1))):
            return None, obstacle
    chosen, obstacle = format_for(wanted, dims, kind)
    if chosen is None:
        return None, obstacle
    return OnnxWeight(name, tensor, chosen, kind, transposed, nodes), ""
