"""ONNX model -> Graph.

Value names are those of the file. A node of the graph is called after its first output, because
names of ONNX nodes may be missing or repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import autoprune.frameworks.onnx.contributed  # noqa: F401  (tells of ONNX Runtime's operators)
from autoprune.errors import TraceError
from autoprune.frameworks.network import LazyArrays
from autoprune.frameworks.onnx.attributes import (
    PLAIN,
    attributes_of,
    constant_of,
    fill_of,
    plain,
)
from autoprune.frameworks.onnx.constants import LARGEST, Numbers, Seen, find_numbers, measures
from autoprune.frameworks.onnx.feeds import graph_inputs, is_dynamic
from autoprune.frameworks.onnx.file import OnnxFile, opset, read_onnx
from autoprune.frameworks.onnx.functions import STANDARD, operator_name
from autoprune.frameworks.onnx.operators import signature
from autoprune.frameworks.onnx.origin import modules_of, source_of
from autoprune.frameworks.onnx.parameters import FLOATS, parameter_kinds
from autoprune.frameworks.onnx.run import run_once
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.frameworks.onnx.signatures import NORMALIZE, Arguments, Context, Signature
from autoprune.frameworks.onnx.walk import subgraphs
from autoprune.ir.graph import Argument, Graph, Node, Parameter, Value, verify
from autoprune.ops.rule import find

PINNED = "onnx.pinned"
"""Operator, before a dot and the name of another one, of calls that pin what they read."""


LARGEST_FILLED = 2**27
"""Elements of the largest weight that is written as one number and a shape."""


Slot = int | str
"""Where an argument stands in an ONNX node: the position of an input, or an attribute."""


@dataclass(frozen=True)
class Owner:
    """Where the tensor of a parameter stands in the model.

    Attributes:
        kind: `initializer`, a `node` Constant, or a node that is `filled` with one number.
        position: in the list of initializers or of nodes.
    """

    kind: Literal["initializer", "node", "filled"]
    position: int


@dataclass(frozen=True)
class TracedOnnx:
    """An ONNX model as a graph.

    Attributes:
        graph: the framework-free graph.
        file: the model it was read from.
        feed: the example inputs.
        owners: by value name, where each parameter's tensor stands.
        positions: by node name, its position in the model.
        slots: by node name and argument, where the argument stands.
        numbers: what is known before the graph runs.
        dynamic: whether the model leaves sizes of its inputs open.
    """

    graph: Graph
    file: OnnxFile
    feed: Feed
    owners: Mapping[str, Owner]
    positions: Mapping[str, int]
    slots: Mapping[str, Mapping[str, Slot]]
    numbers: Numbers
    dynamic: bool

    @property
    def model(self) -> onnx.ModelProto:
        return self.file.model


def trace(
    source: str | Path | onnx.ModelProto,
    example_inputs: Any = None,
    outputs: Sequence[int | str] = (),
) -> TracedOnnx:
    """Run an ONNX model once on example inputs and read it into a graph.

    Args:
        source: a path or a model; it is not changed.
        example_inputs: a dict of arrays by input name, a sequence of arrays in order, or the only
            array. None makes up inputs of the declared types.
        outputs: those that matter, by position or name; empty for all.

    Raises:
        TraceError: if it is no ONNX model, it has no such output, or ONNX Runtime cannot run it on
            the inputs.
    """
    file = read_onnx(source)
    feed, seen = run_once(file.model, example_inputs)
    return _Reader(file, feed, seen, outputs).read()


@dataclass
class _Reader:
    """Reads one model; holds what has been read so far."""

    file: OnnxFile
    feed: Feed
    seen: dict[str, Seen]
    required: Sequence[int | str]
    values: dict[str, Value] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    owners: dict[str, Owner] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    slots: dict[str, dict[str, Slot]] = field(default_factory=dict)

    def read(self) -> TracedOnnx:
        model = self.file.model
        tensors = self._constants(model.graph)
        self.numbers = find_numbers(model, self.seen, tensors)
        self._fill(model.graph)
        kinds = parameter_kinds(model.graph, self.owners, self.seen, tensors)
        self.kinds = kinds
        inputs = tuple(self._define(i.name) for i in graph_inputs(model))
        for position, node in enumerate(model.graph.node):
            owned = any(name in self.owners for name in node.output)
            if not owned and not any(name in self.numbers.computed for name in node.output):
                self._node(position, node)
        outputs = tuple(dict.fromkeys(self._use(o.name) for o in model.graph.output))
        loose = loose_outputs(outputs, [o.name for o in model.graph.output], self.required)
        for name in dict.fromkeys(o.name for o in model.graph.output):
            if name not in {v.name for v in loose}:
                self._keep_sizes(name, "its size is an output")
        graph = Graph(
            inputs, tuple(self.parameters.values()), tuple(self.nodes), outputs, loose=loose
        )
        verify(graph)
        return TracedOnnx(
            graph, self.file, self.feed, self.owners, self.positions, self.slots, self.numbers,
            is_dynamic(model),
        )  # fmt: skip

    def _constants(self, graph: onnx.GraphProto) -> Mapping[str, NDArray[Any]]:
        """Note the owner of every tensor that stands in the model, and what it is."""
        stored: dict[str, onnx.TensorProto] = {}
        constants: dict[str, NDArray[Any]] = {}
        for sparse in graph.sparse_initializer:
            dtype = helper.tensor_dtype_to_np_dtype(sparse.values.data_type).name
            self.seen[sparse.values.name] = Seen(tuple(sparse.dims), dtype, None)
        for i, tensor in enumerate(graph.initializer):
            if tensor.name in self.owners:
                raise TraceError("two tensors have the same name", where=f"tensor {tensor.name}")
            self.owners[tensor.name] = Owner("initializer", i)
            stored[tensor.name] = tensor
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type).name
            keep = prod(tensor.dims) <= LARGEST
            array = numpy_helper.to_array(tensor) if keep else None
            self.seen[tensor.name] = Seen(tuple(tensor.dims), dtype, array)
        for i, node in enumerate(graph.node):
            if node.op_type == "Constant" and node.domain in STANDARD:
                array = constant_of(node)
                if array is not None:
                    self.owners[node.output[0]] = Owner("node", i)
                    constants[node.output[0]] = array
        for name, array in constants.items():
            keep = array.size <= LARGEST
            self.seen[name] = Seen(array.shape, array.dtype.name, array if keep else None)

        def read(name: str) -> NDArray[Any]:
            return numpy_helper.to_array(stored[name]) if name in stored else constants[name]

        return LazyArrays(read, [*stored, *constants])

    def _fill(self, graph: onnx.GraphProto) -> None:
        """Weights may be written as one number and a shape."""
        for i, node in enumerate(graph.node):
            if node.op_type == "ConstantOfShape" and node.input[0] in self.owners:
                value = self.seen[node.output[0]]
                number = fill_of(node)
                if (
                    value.dtype in FLOATS
                    and 1 < prod(value.shape) <= LARGEST_FILLED
                    and number.any()
                ):
                    self.owners[node.output[0]] = Owner("filled", i)

    def _define(self, name: str) -> Value:
        seen = self.seen[name]
        value = Value(name, seen.shape, seen.dtype)
        self.values[name] = value
        return value

    def _use(self, name: str) -> Value:
        """The value of that name; tensors of the model and numbers are defined on first use."""
        if name in self.values:
            return self.values[name]
        sparse = {t.values.name for t in self.file.model.graph.sparse_initializer}
        if name not in self.owners and name not in self.numbers.computed and name not in sparse:
            raise TraceError("a value is used and never computed", where=f"value {name}")
        value = self._define(name)
        if name in self.numbers.sized or name in sparse:
            # What is computed from sizes keeps its own, and depends on nothing else.
            self.nodes.append(Node(name, "onnx.Shape", {}, (value,)))
        else:
            kind = self.kinds.get(name, "constant")
            self.parameters[name] = Parameter(value, (name,), kind)
        return value

    def _node(self, position: int, node: onnx.NodeProto) -> None:
        present = tuple(i for i, name in enumerate(node.output) if name)
        if not present:
            return
        name = node.output[present[0]]
        op = operator_name(node.domain, node.op_type)
        arguments, slots = self._arguments(node, op, present)
        if not isinstance(arguments, dict):
            # All that the node reads is pinned: there is no rule, or none for such a call.
            slots = {}
            reason = {} if arguments is None else {"reason": arguments}
            op = f"{PINNED}.{node.op_type}" if reason else op
            arguments = {"tensors": self._all_read(node), **reason}
        for inner in captured_by(node):
            self._keep_sizes(inner, "a subgraph reads its size")
        outputs = tuple(self._define(node.output[i]) for i in present)
        self.positions[name], self.slots[name] = position, slots
        self.nodes.append(Node(name, op, arguments, outputs, modules_of(node), source_of(node)))

    def _arguments(
        self, node: onnx.NodeProto, op: str, present: tuple[int, ...]
    ) -> tuple[Arguments | str | None, dict[str, Slot]]:
        """The arguments of a node, why no rule covers the call, or None if there is no rule."""
        key = op.removeprefix("onnx.")
        known = signature(key, opset(self.file.model))
        if find(op) is None:
            return None, {}
        if known is None:
            return self._unlisted(node)
        attributes = attributes_of(node)
        read = self._inputs(node, known.inputs)
        if isinstance(read, str):
            return read, {}
        arguments, slots = _settings(known, attributes)
        arguments |= {name: argument for name, (argument, _) in read.items()}
        slots |= {name: slot for name, (_, slot) in read.items() if slot is not None}
        context = Context(
            node.op_type,
            opset(self.file.model),
            [self.seen[n].shape if n else None for n in node.input],
            {i: a for i, n in enumerate(node.input) if (a := self._number(n)) is not None},
            attributes,
            [self.seen[node.output[i]].shape for i in present],
            present,
        )
        normalize = NORMALIZE.get(key)
        return (arguments if normalize is None else normalize(arguments, context)), slots

    def _inputs(
        self, node: onnx.NodeProto, names: tuple[str, ...]
    ) -> dict[str, tuple[Argument, Slot | None]] | str:
        """What the node reads, as arguments of these names; or why they cannot say it."""
        if names == ("*tensors",):
            return {"tensors": (self._all_read(node), None)}
        found: dict[str, tuple[Argument, Slot | None]] = {}
        for i, given in enumerate(node.input):
            if not given or (i < len(names) and names[i] == "-"):
                continue
            if i >= len(names):
                return f"its input {i} is not covered by its rule"
            argument = self._input(given, names[i])
            if argument is None:
                return f"its `{names[i].rstrip('!')}` depends on data"
            found[names[i].rstrip("!?")] = argument, i
        return found

    def _unlisted(self, node: onnx.NodeProto) -> tuple[Arguments, dict[str, Slot]]:
        """Arguments for a rule from outside the package: the tensors, and attributes by name."""
        kinds = {a.name: a.type for a in node.attribute}
        attributes = {
            name: plain(value)
            for name, value in attributes_of(node).items()
            if kinds[name] in PLAIN
        }
        slots: dict[str, Slot] = {name: name for name in attributes}
        return {"tensors": self._all_read(node), **attributes}, slots

    def _keep_sizes(self, number: str, reason: str) -> None:
        """Pin the tensors whose sizes a number is computed from."""
        nodes = self.numbers.nodes_behind([number])
        measured = dict.fromkeys(node.input[0] for node in nodes if measures(node))
        if measured:
            tensors = tuple(self._use(name) for name in measured)
            arguments: Arguments = {"tensors": tensors, "reason": reason}
            name = f"size {len(self.nodes)} of {number}"
            self.nodes.append(Node(name, f"{PINNED}.Shape", arguments, ()))

    def _all_read(self, node: onnx.NodeProto) -> tuple[Value, ...]:
        """What the node reads; a value that it reads twice as an input comes twice."""
        inner = (name for name in reads(node) if name not in node.input)
        return tuple(self._use(name) for name in (*filter(None, node.input), *dict.fromkeys(inner)))

    def _number(self, name: str) -> NDArray[Any] | None:
        """The value of that name, if it is known before the graph runs."""
        known = name in self.owners or name in self.numbers.computed
        return self.seen[name].array if name and known else None

    def _input(self, name: str, form: str) -> Argument:
        """An input as an argument of the given form; None if it is not of that form."""
        array = self._number(name)
        if form.endswith("!"):
            return None if array is None else plain(array)
        if form.endswith("?") and array is not None and array.size == 1:
            return plain(array.reshape(()))
        return self._use(name)


def loose_outputs(
    outputs: Sequence[Value], names: Sequence[str], required: Sequence[int | str]
) -> tuple[Value, ...]:
    """The outputs that do not matter.

    Args:
        outputs: all.
        names: of all, as the model lists them.
        required: names or positions of those that matter; empty for all.

    Raises:
        TraceError: if there is no such output.
    """
    for wanted in required:
        known = wanted in names if isinstance(wanted, str) else -len(names) <= wanted < len(names)
        if not known:
            raise TraceError(
                f"outputs={wanted!r} is none of the model's outputs",
                hint="there are " + ", ".join(map(repr, names)),
            )
    chosen = {wanted if isinstance(wanted, str) else names[wanted] for wanted in required}
    return tuple(v for v in outputs if chosen and v.name not in chosen)


def reads(node: onnx.NodeProto) -> list[str]:
    """The outer values that a node reads, itself or in its subgraphs."""
    return [*filter(None, node.input), *captured_by(node)]


def captured_by(node: onnx.NodeProto) -> list[str]:
    """The outer values that the subgraphs of a node read."""
    return [
        name
        for attribute in node.attribute
        for graph in subgraphs(attribute)
        for name in captured(graph)
    ]


def captured(graph: onnx.GraphProto) -> list[str]:
    """The names that a subgraph uses and does not define."""
    defined = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    used: list[str] = []
    for node in graph.node:
        used.extend(n for n in reads(node) if n not in defined)
        defined.update(node.output)
    return [*used, *(o.name for o in graph.output if o.name not in defined)]


def _settings(known: Signature, attributes: Mapping[str, Any]) -> tuple[Arguments, dict[str, Slot]]:
    """The attributes of a node, and defaults where they are missing, as arguments."""
    arguments: Arguments = {}
    slots: dict[str, Slot] = {}
    for attribute, (name, default) in known.attributes.items():
        given = attributes.get(attribute, default)
        arguments[name] = bool(given) if isinstance(default, bool) else plain(given)
        if attribute in attributes:
            slots[name] = attribute
    return arguments, slots
