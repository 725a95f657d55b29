"""Norms over a share of the positions they were made for, all others counting as zeros.

With a share `s` of the positions kept, the mean over all is `m = s mean(x)`, and the variance
`s mean((x - m)^2) + (1 - s) m^2`, where the means are over the positions kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from autoprune.errors import GraphError
from autoprune.frameworks.onnx.attributes import attributes_of
from autoprune.frameworks.onnx.tensors import Additions

_NARROW = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
"""Dtypes whose statistics are taken in float32."""


@dataclass
class ShareOfNorm:
    """Nodes that take the place of a layer or group normalization.

    Attributes:
        node: the node to be replaced.
        share: the share of positions that the cut leaves.
        rank: number of dimensions of the input.
        dtype: of the input.
        opset: version of the standard operators.
        additions: to the graph.
        nodes: the nodes, in order.
    """

    node: onnx.NodeProto
    share: float
    rank: int
    dtype: str
    opset: int
    additions: Additions
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def build(self) -> list[onnx.NodeProto]:
        """The nodes; the last one defines what the node defined.

        Raises:
            GraphError: if the node is no such norm.
        """
        attributes = attributes_of(self.node)
        epsilon = float(attributes.get("epsilon", 1e-5 if not self.node.domain else 1e-12))
        x, weights = self.node.input[0], [name for name in self.node.input[1:] if name]
        if self.node.op_type == "LayerNormalization":
            first = attributes.get("axis", -1) % self.rank
            result = self._normalized(x, range(first, self.rank), epsilon)
        elif self.node.op_type == "SkipLayerNormalization":
            total, *weights = self._summed()
            result = self._normalized(total, [self.rank - 1], epsilon)
        elif self.node.op_type == "GroupNormalization":
            shape = np.array([0, attributes["num_groups"], -1])
            rows = self._add("Reshape", [x, self.additions.constant(x, shape)])
            flat = self._normalized(rows, [2], epsilon)
            result = self._add("Reshape", [flat, self._add("Shape", [x])])
            weights = self._columns(x, weights)
        elif self.node.op_type == "InstanceNormalization":
            result = self._normalized(x, range(2, self.rank), epsilon)
            weights = self._columns(x, weights)
        else:
            raise GraphError(
                "only layer, group and instance norms can be rescaled", where=str(self.node.name)
            )
        for op, name in zip(("Mul", "Add"), weights, strict=False):
            result = self._add(op, [result, name])
        self.nodes[-1].output[0] = self.node.output[0]
        return self.nodes

    def _summed(self) -> list[str]:
        """The sum that a SkipLayerNormalization is taken of, which may be an output; weights."""
        first, second, *rest = self.node.input
        weights, added = [name for name in rest[:2] if name], rest[2:]
        total = self._add("Add", [first, second])
        for name in added:
            total = self._add("Add", [total, name])
        wanted = list(self.node.output)[3:]
        if wanted and wanted[0]:
            self.nodes[-1].output[0] = total = wanted[0]
        return [total, *weights]

    def _columns(self, x: str, weights: list[str]) -> list[str]:
        """Weights of channels, in a shape that broadcasts along all that follows them."""
        column = self.additions.constant(x, np.array([-1, *[1] * (self.rank - 2)]))
        return [self._add("Reshape", [name, column]) for name in weights]

    def _normalized(self, x: str, dims: Sequence[int], epsilon: float) -> str:
        if self.dtype in _NARROW:
            x = self._add("Cast", [x], to=TensorProto.FLOAT)
        mean = self._add("Mul", [self._mean(x, dims), self._number(self.share)])
        centred = self._add("Sub", [x, mean])
        kept = self._mean(self._add("Mul", [centred, centred]), dims)
        removed = self._add("Mul", [mean, mean])
        kept = self._add("Mul", [kept, self._number(self.share)])
        removed = self._add("Mul", [removed, self._number(1 - self.share)])
        variance = self._add("Add", [kept, removed])
        deviation = self._add("Sqrt", [self._add("Add", [variance, self._number(epsilon)])])
        result = self._add("Div", [centred, deviation])
        if self.dtype in _NARROW:
            result = self._add("Cast", [result], to=_NARROW[self.dtype])
        return result

    def _mean(self, x: str, dims: Sequence[int]) -> str:
        axes = np.array(dims)
        if self.opset < 18:
            return self._add("ReduceMean", [x], axes=axes.tolist(), keepdims=1)
        return self._add("ReduceMean", [x, self.additions.constant(x, axes)], keepdims=1)

    def _number(self, number: float) -> str:
        dtype = "float32" if self.dtype in _NARROW else self.dtype
        return self.additions.constant(self.node.output[0], np.array(number, dtype=dtype))

    def _add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(self.additions.node(op, inputs, self.node.output[0], **attributes))
        return self.nodes[-1].name
