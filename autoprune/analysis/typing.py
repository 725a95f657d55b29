"""Give every axis of every value its type, by asking each operator for its equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter

import autoprune.ops  # noqa: F401  (registers the operator families)
from autoprune.errors import GraphError
from autoprune.ir.axes import Axes, Axis, uids_of
from autoprune.ir.graph import Graph, Node, Value
from autoprune.ir.reason import Reason
from autoprune.ops.rule import UNKNOWN, Operator, find
from autoprune.ops.views import Shape, Typing

_size = attrgetter("size")


@dataclass(frozen=True)
class TypedGraph:
    """A graph and the solved axis types of its values.

    Attributes:
        graph: the graph.
        types: by value name, the axis of each dimension, resolved.
        pins: by leaf, why its units cannot be removed.
        unknown: nodes whose operator has no rule.
        rules: by node name, rules that hold for single calls and go before the operator's.
        made: by value name, the axes that the call which makes a value gave it, before all was
            solved.
        solver: what solved them.
    """

    graph: Graph
    types: Mapping[str, Shape]
    pins: Mapping[int, Reason]
    unknown: tuple[Node, ...]
    rules: Mapping[str, Operator]
    made: Mapping[str, Shape] = field(repr=False)
    solver: Axes = field(repr=False, compare=False)

    @cached_property
    def uids(self) -> Mapping[str, frozenset[int]]:
        """By value name, the leaves it carries."""
        found: dict[int, frozenset[int]] = {}
        for shape in self.types.values():  # many values share one
            if id(shape) not in found:
                found[id(shape)] = uids_of(shape)
        return {name: found[id(shape)] for name, shape in self.types.items()}

    def operator_of(self, node: Node) -> Operator:
        """The rule of a call; operators without one pin all they touch."""
        return self.rules.get(node.name) or find(node.op) or UNKNOWN

    def __str__(self) -> str:
        """The graph's text form with axis types in place of sizes."""
        return self.graph.text(self.types)


def nodes_without_rule(graph: Graph) -> tuple[Node, ...]:
    """The calls that pin what they touch because their operator has no rule."""
    return tuple(n for n in graph.nodes if n.inputs and n.outputs and find(n.op) is None)


def unused_parameters(graph: Graph) -> tuple[Value, ...]:
    """Trained parameters that no node reads, such as those of heads used in training alone."""
    used = {v.name for node in graph.nodes for v in node.inputs}
    used.update(v.name for v in graph.outputs)
    return tuple(
        p.value for p in graph.parameters if p.kind == "parameter" and p.value.name not in used
    )


def _shapes(operator: Operator, call: Typing) -> Sequence[Shape]:
    """What a rule says of a call. Numbers have no axes, whatever an operator does along them."""
    node = call.node
    if not any(value.shape for value in (*node.inputs, *node.outputs)):
        return [()] * len(node.outputs)
    try:
        return operator.axes(call)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise GraphError(
            f"the rule of {node.op} does not fit this call: {type(error).__name__}: {error}",
            where=str(node),
            hint="please report it; meanwhile replace the rule (autoprune.rule, override=True)",
        ) from error


def _contradiction(node: Node, shapes: Sequence[Shape]) -> GraphError:
    given = [tuple(map(_size, shape)) for shape in shapes]
    traced = [value.shape for value in node.outputs]
    return GraphError(
        f"the rule of {node.op} gives shapes {given}, traced were {traced}",
        where=str(node),
        hint="the operator's rule is wrong; please report it",
    )


def _computed_of_parameters(graph: Graph) -> set[str]:
    """Values that nothing but parameters goes into, and these."""
    found = {p.value.name for p in graph.parameters}
    for node in graph.nodes:
        if all(v.name in found for v in node.inputs):
            found.update(v.name for v in node.outputs)
    return found


def infer(
    graph: Graph, *, strict: bool = False, rules: Mapping[str, Operator] | None = None
) -> TypedGraph:
    """Solve the axis types of a graph.

    By node name, `rules` may name rules for single calls, which go before the operator's.

    Graph inputs, and outputs that matter, are pinned: others depend on their shapes. So are
    parameters that the graph does not use: what does use them is not known.

    Raises:
        GraphError: with `strict`, if an operator has no rule; always, if a rule returns axes
            that contradict the traced shapes.
    """
    axes = Axes()
    types: dict[str, Shape] = {}
    for value in graph.inputs:
        reason = f"graph input `{value.name}`"
        types[value.name] = tuple([axes.pinned_leaf(n, reason) for n in value.shape])
    for parameter in graph.parameters:
        types[parameter.value.name] = tuple([axes.leaf(n) for n in parameter.value.shape])
    unread: list[Axis] = []
    rules = {} if rules is None else rules
    unknown: list[Node] = []
    for node in graph.nodes:
        operator = rules.get(node.name) or find(node.op) or UNKNOWN
        if operator is UNKNOWN and node.inputs and node.outputs:
            unknown.append(node)
            if strict:
                raise GraphError(
                    f"operator {node.op} has no rule",
                    where=f"node {node.name}{f', {node.source}' if node.source else ''}",
                    hint="register a rule for it, or allow unknown operators (strict=False)",
                )
        axes.node = node
        shapes = _shapes(operator, Typing(node, types, axes, unread))
        if len(shapes) != len(node.outputs):
            raise _contradiction(node, shapes)
        for value, shape in zip(node.outputs, shapes, strict=True):
            if tuple(map(_size, shape)) != value.shape:
                raise _contradiction(node, shapes)
            types[value.name] = shape
    axes.node = None
    for value in graph.required:
        for axis in types[value.name]:
            axes.pin(axis, f"graph output `{value.name}`")
    for value in unused_parameters(graph):
        for axis in types[value.name]:
            axes.pin(axis, "the forward pass in evaluation mode does not use it")
    for value in graph.mutated:
        for axis in types[value.name]:
            axes.pin(axis, f"`{value.name}` is written to")
    # Values share axes, and some whole shapes, so that few of them have to be resolved.
    known = {id(shape): shape for shape in types.values()}
    solved = {key: axes.resolve_all(shape) for key, shape in known.items()}
    resolved = {name: solved[id(shape)] for name, shape in types.items()}
    if unread:
        constants = _computed_of_parameters(graph)
        computed = uids_of(
            axis for name, shape in resolved.items() if name not in constants for axis in shape
        )
        for axis in map(axes.resolve, unread):
            # Longer inputs may read the rest of a table, such as one of positions.
            if axis.uids.isdisjoint(computed):
                axes.pin(axis, "the example inputs do not reach it")
    return TypedGraph(graph, resolved, axes.pins(), tuple(unknown), rules, types, axes)
