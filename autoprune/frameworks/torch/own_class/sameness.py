"""Whether a rebuilt model of the user's class is the cut graph.

It has to make the same calls: equal outputs on the example inputs are not enough, because layers
initialised with zeros, and limits that the example does not reach, hide differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from autoprune.analysis.typing import TypedGraph
from autoprune.ir import axes as ax
from autoprune.ir.graph import Argument, Graph, Node, Value
from autoprune.ops.rule import find
from autoprune.ops.views import Call, Resized, Scaled

Shaped = Callable[[Value], tuple[int, ...]]


@dataclass(frozen=True)
class Discrepancy:
    """A number in a call of the rebuilt model that differs from the cut graph's.

    Attributes:
        node: the call, as in the original graph.
        argument: which of its literals differs, or nothing where the cut graph multiplies the
            result by a factor and the rebuilt model does not.
        wanted: the number the cut graph has, or that factor.
        got: the number the rebuilt model has (1 in place of a missing factor).
    """

    node: Node
    argument: str
    wanted: float
    got: float

    def __str__(self) -> str:
        what = f"{self.argument} is {self.got:.4g} instead of" if self.argument else "it lacks a"
        factor = "" if self.argument else "factor "
        return f"{what} {factor}{self.wanted:.4g} in {self.node.op} ({self.node.source})"


@dataclass(frozen=True)
class Comparison:
    """How a rebuilt model differs from the cut graph.

    Attributes:
        problem: the first difference that is none of numbers alone, or nothing.
        discrepancies: differences of numbers, where there is no other.
    """

    problem: str
    discrepancies: tuple[Discrepancy, ...] = ()


def compare(
    typed: TypedGraph, sizes: Mapping[int, int], calls: Mapping[str, Resized], got: Graph
) -> Comparison:
    """Compare the calls of `got` with those of the cut graph, one by one.

    Args:
        typed: the original graph.
        sizes: leaf sizes after the cut.
        calls: what the cut changes in the original's calls, by node name.
        got: the graph of the rebuilt model.
    """
    wanted = typed.graph

    def cut_shape(value: Value) -> tuple[int, ...]:
        return tuple(ax.size(axis, sizes) for axis in typed.types[value.name])

    sources, got_sources = _sources(wanted, cut_shape), _sources(got, lambda v: v.shape)
    left = [n for n in wanted.nodes if not _is_reshape(n, cut_shape)]
    right = [n for n in got.nodes if not _is_reshape(n, lambda v: v.shape)]
    if len(left) != len(right):
        return Comparison(f"it makes {len(right)} calls, the cut graph {len(left)}")
    same = {v.name: w.name for v, w in zip(wanted.inputs, got.inputs, strict=False)}
    same |= {n: p.value.name for p in got.parameters for n in p.names}

    def equal(a: Argument | Scaled, b: Argument) -> bool:
        if isinstance(a, tuple):
            return (
                isinstance(b, tuple)
                and len(a) == len(b)
                and all(equal(x, y) for x, y in zip(a, b, strict=True))
            )
        if isinstance(a, Scaled):
            return isinstance(b, Value)
        if isinstance(a, Value):
            source = sources.get(a.name, a.name)
            return (
                isinstance(b, Value)
                and cut_shape(a) == b.shape
                and same.get(source, source) == got_sources.get(b.name, b.name)
            )
        if isinstance(a, float) and isinstance(b, float):
            return math.isclose(a, b, rel_tol=1e-9) or (math.isnan(a) and math.isnan(b))
        return a == b

    discrepancies: list[Discrepancy] = []
    for expected, found in zip(left, right, strict=True):
        call = calls.get(expected.name, Resized())
        shapes = [cut_shape(v) for v in expected.outputs]
        problem = _deviation(expected, shapes, call, found, equal, discrepancies)
        if problem:
            return Comparison(f"{problem} in {found.op} ({found.source or found.name})")
        same |= {v.name: w.name for v, w in zip(expected.outputs, found.outputs, strict=True)}
    ends = zip(wanted.outputs, got.outputs, strict=False)
    if not all(equal(a, b) for a, b in ends):
        return Comparison("it returns other values")
    return Comparison("", tuple(discrepancies))


def _is_reshape(node: Node, shape: Shaped) -> bool:
    """Whether a call only names the same elements anew.

    A forward may leave it out at other sizes, as a loop over one repetition does.
    """
    operator = find(node.op)
    if operator is None or not operator.reshapes or len(node.outputs) != 1:
        return False
    return prod(shape(node.inputs[0])) == prod(shape(node.outputs[0]))


def _sources(graph: Graph, shape: Shaped) -> dict[str, str]:
    """The value each reshaped value holds the elements of."""
    sources: dict[str, str] = {}
    for node in graph.nodes:
        if _is_reshape(node, shape):
            source = node.inputs[0].name
            sources[node.outputs[0].name] = sources.get(source, source)
    return sources


def _deviation(
    expected: Node,
    shapes: list[tuple[int, ...]],
    call: Resized,
    found: Node,
    equal: Callable[[Argument | Scaled, Argument], bool],
    discrepancies: list[Discrepancy],
) -> str:
    if call.scale != 1.0:
        discrepancies.append(Discrepancy(expected, "", call.scale, 1.0))
    if call.share != 1.0:
        return "mean and variance are not those of the uncut axis"
    if shapes != [v.shape for v in found.outputs]:
        return "another shape comes out"
    if found.op not in (expected.op, call.op):
        return f"it replaces {expected.op}"
    if call.op is not None:
        return ""  # the original operator, which does for these sizes: the shapes agree
    for name, old in {**dict.fromkeys(call.arguments), **expected.arguments}.items():
        new, given = call.arguments.get(name, old), found.arguments.get(name)
        if equal(new, given) or (name == "end" and _beyond(given)):
            continue
        right, wrong = _number(expected, name, new), _number(found, name, given)
        if right is None or wrong is None:
            return f"{name} is {_show(given)} instead of {_show(new)}"
        discrepancies.append(Discrepancy(expected, name, right, wrong))
    return ""


def _number(node: Node, name: str, given: Argument | Scaled) -> float | None:
    """A real literal, or the number that its absence stands for."""
    if isinstance(given, float) or (type(given) is int and name == "other"):
        return float(given)
    operator = find(node.op)
    if given is None and operator is not None:
        return operator.implied(Call(node, {})).get(name)
    return None


def _beyond(end: Argument) -> bool:
    """Whether a slice runs to the end, however long the axis is."""
    return end is None or (isinstance(end, int) and end >= 2**62)


def _show(a: Argument | Scaled) -> str:
    return "[...]" if isinstance(a, tuple) and len(a) > 6 else str(a)
