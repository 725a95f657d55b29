"""Graph, Node and Value: a traced network as plain immutable data, without any framework.

A graph prints as `autoprune.ir.text` reads it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from autoprune.errors import GraphError

PLAIN_NAME = re.compile(r"[\w.$/-]+")
"""A name that is printed without quotes."""


def quoted(name: str) -> str:
    """A name as the text form prints it."""
    return name if PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


NO_NOTES: Mapping[str, Sequence[str]] = MappingProxyType({})
Dims = Mapping[str, Sequence[object]]
"""By value name, what is printed in place of the sizes of its dimensions."""


@dataclass(frozen=True, slots=True)
class Value:
    """What an edge of the graph carries.

    Attributes:
        name: unique within the graph.
        shape: sizes on the example inputs; `()` for scalars.
        dtype: framework-neutral name such as `float32`, `int64`, `bool`; `int` for a symbolic
            size, whose value on the example inputs is `hint`.
        hint: see `dtype`; or the integer that is everywhere in a buffer, such as a switch.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    hint: int | None = None

    def __str__(self) -> str:
        return f"%{quoted(self.name)}"

    def definition(self, dims: Dims | None = None) -> str:
        """Name, dtype and dimensions, as printed where the value is defined."""
        hint = "" if self.hint is None else f"({self.hint})"
        shape = self.shape if dims is None else dims[self.name]
        return f"{spelled(str(self), self.dtype, shape)}{hint}"


def spelled(name: str, dtype: str, shape: Sequence[object]) -> str:
    """A tensor as people read it: `x: float32[1,3,224,224]`."""
    return f"{name}: {dtype}[{','.join(map(str, shape))}]"


Argument = Value | int | float | bool | str | None | tuple["Argument", ...]


Kind = Literal["parameter", "buffer", "constant"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor the graph owns.

    Attributes:
        value: the tensor as an edge; its name is the first of `names`.
        names: every name under which the model knows this tensor (tied parameters have several).
        kind: `parameter` is trained, `buffer` is state, `constant` was written into the code.
    """

    value: Value
    names: tuple[str, ...]
    kind: Kind


def ancestry(path: str) -> tuple[str, ...]:
    """The modules that a module is in, from the whole network, `""`, down to itself."""
    parts = path.split(".") if path else []
    return tuple(".".join(parts[:i]) for i in range(len(parts) + 1))


@dataclass(frozen=True)
class Node:
    """One operator call.

    Attributes:
        name: unique within the graph.
        op: operator name as its framework spells it, e.g. `aten.conv2d.default`.
        arguments: by the name in the operator's schema; values, numbers, strings, nested tuples.
        outputs: the values it defines, in order.
        module: path of the module that called it, outermost first, e.g. `("layer1", "layer1.0")`.
        source: file, line and text of the user's code, or empty.
    """

    name: str
    op: str
    arguments: Mapping[str, Argument]
    outputs: tuple[Value, ...]
    module: tuple[str, ...] = ()
    source: str = ""
    memo: dict[Callable[..., Any], Any] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """What rules have derived from the arguments, by the function that did."""

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """Every value among the arguments, in order."""
        return tuple(v for a in self.arguments.values() for v in values_in(a))

    @cached_property
    def tensors(self) -> tuple[Value, ...]:
        """Every tensor among the arguments (not symbolic sizes), in order."""
        return tuple(v for v in self.inputs if v.dtype != "int")

    @cached_property
    def label(self) -> str:
        """Operator and name, as the reasons of pins and guarantees end with."""
        return f"{self.op} `{self.name}`"

    def __str__(self) -> str:
        return self.definition()

    def definition(self, dims: Dims | None = None) -> str:
        """What it computes, without where in the model that is."""
        defined = ", ".join(v.definition(dims) for v in self.outputs) or "_"
        arguments = (f"{quoted(k)}={format_argument(a)}" for k, a in self.arguments.items())
        return f"{defined} = {quoted(self.op)}({', '.join(arguments)})"

    @property
    def origin(self) -> str:
        """Name, module and source, as far as there are any that the definition does not tell."""
        text = ""
        if not self.outputs or self.outputs[0].name != self.name:
            text += f" as {quoted(self.name)}"
        if self.module:
            paths = list(map(quoted, self.module))
            is_chain = self.module == ancestry(self.module[-1])
            text += f" in {paths[-1]}" if is_chain else f" in [{', '.join(paths)}]"
        if self.source:
            text += f" at {json.dumps(self.source, ensure_ascii=False)}"
        return text


@dataclass(frozen=True)
class Graph:
    """A traced network: inputs, parameters, nodes in topological order, outputs."""

    inputs: tuple[Value, ...]
    parameters: tuple[Parameter, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    mutated: tuple[Value, ...] = field(default=())
    """Parameters the graph writes to (running statistics in training mode, caches)."""
    loose: tuple[Value, ...] = field(default=())
    """Outputs that nobody needs: their shapes and numbers may change."""

    def __str__(self) -> str:
        return self.text()

    def text(self, dims: Dims | None = None, notes: Mapping[str, Sequence[str]] = NO_NOTES) -> str:
        """The text form; by node name, `notes` are comments on a call, or on the graph by `""`."""
        lines = [f"graph({', '.join(v.definition(dims) for v in self.inputs)}) {{"]
        for parameter in self.parameters:
            tied = ", ".join(map(quoted, parameter.names[1:]))
            kind = f"{parameter.kind}({tied})" if tied else parameter.kind
            lines.append(f"  {parameter.value.definition(dims)} = {kind}")
        for node in self.nodes:
            lines.append(f"  {node.definition(dims)}{node.origin}")
            lines += [f"    # {note}" for note in notes.get(node.name, ())]
        lines += [f"  # {note}" for note in notes.get("", ())]
        for word in ("mutated", "loose"):
            if values := getattr(self, word):
                lines.append(f"  {word} {', '.join(map(str, values))}")
        lines += [f"  return {', '.join(map(str, self.outputs))}".rstrip(), "}"]
        return "\n".join(lines)

    @cached_property
    def parameter_of(self) -> Mapping[str, Parameter]:
        """Parameter by value name."""
        return {p.value.name: p for p in self.parameters}

    @cached_property
    def required(self) -> tuple[Value, ...]:
        """The outputs that matter."""
        return tuple(v for v in self.outputs if v not in self.loose)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of operators, wiring and parameters, without batch- or image-size numbers.

        Equal for two traces of the same architecture on inputs of different sizes.
        """
        wiring = {
            "inputs": [v.name for v in self.inputs],
            "parameters": [[p.names, p.value.shape, p.value.dtype] for p in self.parameters],
            "nodes": [
                [
                    n.op,
                    {k: _names(a) for k, a in n.arguments.items() if k not in _NEWER},
                    _names(n.outputs),
                ]
                for n in self.nodes
            ],
            "outputs": [v.name for v in self.outputs],
        }
        return hashlib.sha256(json.dumps(wiring).encode()).hexdigest()


_NEWER = {
    "window_strides", "window_dilations", "window_padding", "product_scale", "added_scale"
}  # fmt: skip
"""Arguments that graphs have got since the first plans were written, for these digests."""


def _names(argument: Argument) -> object:
    """The wiring of an argument: names of values in their nesting, without numbers."""
    if isinstance(argument, Value):
        return argument.name
    return [_names(a) for a in argument] if isinstance(argument, tuple) else None


def values_in(argument: Argument) -> Iterator[Value]:
    """The values inside a (nested) argument."""
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, tuple):
        for part in argument:
            yield from values_in(part)


def format_argument(argument: Argument) -> str:
    """An argument as the text form prints it."""
    if isinstance(argument, tuple):
        return f"[{', '.join(format_argument(a) for a in argument)}]"
    if isinstance(argument, str):
        return json.dumps(argument, ensure_ascii=False)
    return str(argument)


def verify(graph: Graph) -> None:
    """Check the graph's invariants.

    Every value is defined once and before its use, node names are unique, sizes are non-negative
    integers and every output is defined.

    Raises:
        GraphError: naming the node and the invariant it breaks.
    """
    defined: dict[str, Value] = {}

    def define(value: Value, where: str) -> None:
        if value.name in defined:
            raise GraphError(f"value %{value.name} is defined twice", where=where)
        if not all(isinstance(n, int) and n >= 0 for n in value.shape):
            raise GraphError(f"value %{value.name} has shape {value.shape}", where=where)
        defined[value.name] = value

    for value in graph.inputs:
        define(value, "graph inputs")
    for parameter in graph.parameters:
        if not parameter.names or parameter.names[0] != parameter.value.name:
            raise GraphError(
                f"parameter %{parameter.value.name} is not listed under its own name",
                where="graph parameters",
            )
        define(parameter.value, "graph parameters")
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise GraphError(f"two nodes are called {node.name}", where=str(node))
        names.add(node.name)
        for value in node.inputs:
            if defined.get(value.name) != value:
                raise GraphError(f"{value} is used before it is defined", where=str(node))
        for value in node.outputs:
            define(value, str(node))
    for value in graph.outputs:
        if defined.get(value.name) != value:
            raise GraphError(f"output {value} is not defined", where="graph outputs")
    for value in graph.mutated:
        if value.name not in graph.parameter_of:
            raise GraphError(f"{value} is written to but is no parameter", where="graph")
