"""An ONNX node with its own test inputs, between layers that feed it and layers that read it.

Every dimension of what a layer feeds is a channel dimension: one MatMul for each, with weights that
scale and permute, so that the node is given exactly the numbers of its test. Every dimension of
what the node makes is read by a MatMul. A path beside it makes sure that something can be pruned:

    in.x -> MatMul x.0, MatMul x.1 -> node -> MatMul y.0, MatMul y.1 -> out.y
    in   -> MatMul, Relu, MatMul -> out
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from autoprune.frameworks.onnx.parameters import QUANTIZED

Array = np.ndarray[Any, Any]
Feed = dict[str, Array]

READ = 2
"""Units that a reading layer makes."""


class Sandwich:
    """Builds one network around the nodes of a model.

    Args:
        model: the nodes, with inputs and outputs.
        inputs: values of the inputs.
        outputs: values of the outputs.
        fed: names of the inputs that layers feed; others are constants.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        fed: Sequence[str],
    ) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = list(model.graph.initializer)
        self.given: list[onnx.ValueInfoProto] = []
        self.made: list[onnx.ValueInfoProto] = []
        self.feed: Feed = {}
        self.narrow = False
        """Whether some number has less than single precision."""
        self.quantized = _quantized(model, inputs)
        for value, data in zip(model.graph.input, inputs, strict=True):
            self._input(value, data, value.name in fed)
        self.nodes.extend(model.graph.node)
        for value, data in zip(model.graph.output, outputs, strict=True):
            self._output(value, data)
        self._beside()
        graph = helper.make_graph(self.nodes, "sandwich", self.given, self.made, self.tensors)
        self.model = helper.make_model(
            graph, opset_imports=model.opset_import, ir_version=max(model.ir_version, 8),
            functions=model.functions,
        )  # fmt: skip

    def _node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def _tensor(self, name: str, array: Array) -> str:
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def _given(self, name: str, array: Array, dtype: int = TensorProto.FLOAT) -> str:
        self.given.append(helper.make_tensor_value_info(name, dtype, array.shape))
        self.feed[name] = array
        return name

    def _input(self, value: onnx.ValueInfoProto, data: Any, fed: bool) -> None:
        name, kind = value.name, value.type
        if kind.HasField("optional_type"):
            kind = kind.optional_type.elem_type
            if data is None:
                self._node("Optional", [], name, type=kind)
                return
            whole = self._part(f"{name}.some", kind, data, fed)
            self._node("Optional", [whole], name)
        else:
            self._part(name, kind, data, fed)

    def _part(self, name: str, kind: onnx.TypeProto, data: Any, fed: bool) -> str:
        self.narrow |= _element(kind) in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
        if kind.HasField("sequence_type"):
            inner = kind.sequence_type.elem_type
            parts = [self._part(f"{name}.{i}", inner, p, fed) for i, p in enumerate(data)]
            if not parts:
                return self._node("SequenceEmpty", [], name, dtype=inner.tensor_type.elem_type)
            return self._node("SequenceConstruct", parts, name)
        array = as_array(data)
        dtype = kind.tensor_type.elem_type
        if dtype == TensorProto.STRING:
            return self._given(name, array.astype(object), dtype)
        if not fed:
            return self._tensor(name, array)
        return self._layers(name, array, dtype)

    def _layers(self, name: str, array: Array, dtype: int) -> str:
        """One MatMul for each dimension, after which the numbers are those of `array`."""
        scale, zero = self.quantized.get(name, (None, None))
        with np.errstate(all="ignore"):
            numbers = np.nan_to_num(array.astype(np.float32), posinf=3, neginf=-3)
        if scale is not None:
            numbers = (numbers - zero.astype(np.float32)) * scale
        weights = [self._mixture(n) for n in numbers.shape]
        for dim, weight in enumerate(weights):
            numbers = np.moveaxis(np.moveaxis(numbers, dim, -1) @ _inverse(weight), -1, dim)
        x = self._given(f"in.{name}", numbers)
        x = self._through(x, name, numbers.shape, weights)
        if dtype == TensorProto.FLOAT:
            return self._node("Identity", [x], name)
        if scale is not None:
            given = self._tensor(f"{name}.scale", scale), self._tensor(f"{name}.zero", zero)
            return self._node("QuantizeLinear", [x, *given], name)
        return self._node("Cast", [x], name, to=dtype)

    def _mixture(self, size: int) -> Array:
        """A permutation with scales that are powers of two, so that nothing is rounded."""
        scales = self.rng.choice([-2.0, -0.5, 0.5, 2.0], size)
        return (np.eye(size)[self.rng.permutation(size)] * scales).astype(np.float32)

    def _through(self, x: str, name: str, shape: Sequence[int], weights: Sequence[Array]) -> str:
        """Multiply each dimension with its weight, from the last one on."""
        rank = len(shape)
        for dim in reversed(range(rank)):
            if shape[dim] > 1:
                weight = self._tensor(f"{name}.{dim}", weights[dim])
                x = self._node("MatMul", [x, weight], f"{name}.mm{dim}")
            if rank > 1:
                order = [rank - 1, *range(rank - 1)]
                x = self._node("Transpose", [x], f"{name}.turned{dim}", perm=order)
        return x

    def _output(self, value: onnx.ValueInfoProto, data: Any) -> None:
        name, kind = value.name, value.type
        if not kind.HasField("tensor_type") or kind.tensor_type.elem_type == TensorProto.STRING:
            self.made.append(onnx.ValueInfoProto(name=name, type=kind))
            return
        x, shape = name, as_array(data).shape
        if kind.tensor_type.elem_type != TensorProto.FLOAT:
            x = self._node("Cast", [x], f"{name}.float", to=TensorProto.FLOAT)
        weights = [self.rng.standard_normal((n, READ)).astype(np.float32) for n in shape]
        x = self._through(x, f"out.{name}", shape, weights)
        self.made.append(onnx.ValueInfoProto(name=self._node("Identity", [x], f"out.{name}")))

    def _beside(self) -> None:
        x = self._given("in", self.rng.standard_normal((3, 4)).astype(np.float32))
        for name, rows, columns in (("beside.a", 4, 6), ("beside.b", 6, 2)):
            weight = self.rng.standard_normal((rows, columns)).astype(np.float32)
            x = self._node("MatMul", [x, self._tensor(name, weight)], f"{name}.mm")
            x = self._node("Relu", [x], f"{name}.relu") if name == "beside.a" else x
        self.made.append(onnx.ValueInfoProto(name=x))


def _quantized(model: onnx.ModelProto, inputs: Sequence[Any]) -> dict[str, tuple[Array, Array]]:
    """By name, scale and zero point of the integers that a node reads, if they are one each."""
    names = [value.name for value in model.graph.input]
    values = dict(zip(names, inputs, strict=True))
    found: dict[str, tuple[Array, Array]] = {}
    for node in model.graph.node:
        for place in QUANTIZED.get(node.op_type, ()):
            given = list(node.input)[place.weight : place.weight + 1]
            if not given or given[0] not in values or as_array(values[given[0]]).dtype.itemsize > 1:
                continue

            def at(position: int | None, default: Array, node: onnx.NodeProto = node) -> Array:
                present = position is not None and position < len(node.input)
                return as_array(values[node.input[position]]) if present else default

            scale = at(place.scale, np.array(1, np.float32)).astype(np.float32)
            zero = at(place.zero_point, np.zeros((), as_array(values[given[0]]).dtype))
            if scale.size == zero.size == 1:
                found[given[0]] = scale.reshape(()), zero.reshape(())
    return found


def as_array(data: Any) -> Array:
    """A value of a test as an array."""
    return numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else np.asarray(data)


def _inverse(mixture: Array) -> Array:
    """The inverse of a permutation with scales."""
    return np.divide(1, mixture.T, where=mixture.T != 0, out=np.zeros_like(mixture.T))


def feedable(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[list[str]]:
    """The choices of inputs that layers can make: the first one, and all floating-point ones."""
    pairs = zip(model.graph.input, inputs, strict=True)
    kinds = {value.name: _element(value.type) for value, data in pairs if _is_numeric(value, data)}
    floats = [name for name, kind in kinds.items() if kind in _FLOATS]
    first = list(kinds)[:1]
    return [first, floats] if floats and floats != first else [first]


_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


def _element(kind: onnx.TypeProto) -> int:
    if kind.HasField("optional_type"):
        return _element(kind.optional_type.elem_type)
    if kind.HasField("sequence_type"):
        return _element(kind.sequence_type.elem_type)
    return int(kind.tensor_type.elem_type)


def _is_numeric(value: onnx.ValueInfoProto, data: Any) -> bool:
    if data is None or _element(value.type) == TensorProto.STRING:
        return False
    parts = data if isinstance(data, list) else [data]
    return all(part is not None and as_array(part).size > 1 for part in parts)
