"""An ONNX graph with its wiring, to be matched and rewritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Wiring:
    """Who reads what in a graph without subgraphs.

    Attributes:
        constants: tensors in initializers, by name.
        producers: the node that makes a value.
        readers: the nodes that read a value; a graph output counts as one more, None.
        shapes: of values; a size is a number, the name of one that varies, or None if unknown.
    """

    constants: dict[str, onnx.TensorProto]
    producers: dict[str, onnx.NodeProto]
    readers: dict[str, list[onnx.NodeProto | None]]
    shapes: dict[str, tuple[int | str | None, ...]]

    def constant(self, name: str) -> Array | None:
        """A constant's values, or None if the value is none."""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def scalar(self, name: str) -> float | None:
        """The number in a constant of one element."""
        found = self.constant(name)
        return None if found is None or found.size != 1 else float(found.reshape(()))

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that alone reads a value."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 else None


def wiring(model: onnx.ModelProto) -> Wiring:
    """The wiring of a model's graph."""
    graph = model.graph
    readers: dict[str, list[onnx.NodeProto | None]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for value in graph.output:
        readers.setdefault(value.name, []).append(None)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in value.type.tensor_type.shape.dim
        )
        for value in (*inferred.input, *inferred.output, *inferred.value_info)
        if value.type.tensor_type.HasField("shape")
    }
    return Wiring(
        {tensor.name: tensor for tensor in graph.initializer},
        {name: node for node in graph.node for name in node.output},
        readers,
        shapes,
    )


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def is_vector(array: Array | None, size: int) -> bool:
    """Whether it holds one number for each of `size` outputs."""
    return array is not None and array.dtype == np.float32 and array.size == size
